#pragma once

#include <tutti/core/config/run_file.h>
#include "launcher/run/run_settings.h"

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// A run directory's run.yaml, as its run wrote it. Wherever it is read from, it means this run: run.dir is
/// its directory, and relative paths are those of the working directory that the run was started in.
struct OwnRun {
  RunSettings settings;
  std::vector<std::string> warnings;  ///< keys that this version of Tutti does not know
};

/// The run file that an argument of the command line means: the file itself, or run.yaml in that directory.
std::filesystem::path run_file_of(const std::filesystem::path& argument);

/// Whether the file is run.yaml in the directory of a run, which has a manifest beside it.
bool is_own_run_file(const std::filesystem::path& run_file);

/// Reads the run.yaml of a run directory. Keys that are not known any more are left out with a warning; paths
/// below the directory that the run had before are taken to be below `directory`. Throws Error naming file
/// and line of values that are not possible.
OwnRun read_own_run(const std::filesystem::path& directory);

/// The settings with absolute paths, as run.yaml holds them.
RunSettings with_absolute_paths(RunSettings settings);

/// The keys that hold paths, which with_absolute_paths() changes.
std::vector<std::string> path_keys();

}  // namespace tutti
