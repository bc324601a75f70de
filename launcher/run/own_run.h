#pragma once

#include <tutti/core/config/run_file.h>
#include "launcher/run/run_settings.h"

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// The run.yaml that a run wrote to its directory. It always denotes this run: run.dir is its directory, and
/// paths are relative to the working directory in which the run was started.
struct OwnRun {
  RunSettings settings;
  std::vector<std::string> warnings;  ///< keys that this version of Tutti does not have
};

/// The run file of a command-line argument: the file itself, or run.yaml in that directory.
std::filesystem::path run_file_of(const std::filesystem::path& argument);

/// Whether the file is run.yaml in the directory of a run, which contains a manifest.
bool is_own_run_file(const std::filesystem::path& run_file);

/// Reads the run.yaml of a run directory. Unknown keys are ignored with a warning; paths in an earlier
/// directory of the run are changed to `directory`. Throws Error naming file and line of invalid values.
OwnRun read_own_run(const std::filesystem::path& directory);

/// The settings with absolute paths, as in run.yaml.
RunSettings with_absolute_paths(RunSettings settings);

/// The keys with paths, which with_absolute_paths() changes.
std::vector<std::string> path_keys();

}  // namespace tutti
