#pragma once

#include "launcher/launch/spec.h"
#include "launcher/launch/surroundings.h"
#include "launcher/run/training.h"

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// The run file and overrides of a `train` command; its other options are for the command itself. Throws
/// UsageError without a run file.
TrainOptions train_options(const std::vector<std::string>& command);

/// Reads the run file as each combination of a sweep changes it. Throws Error naming the first key or value
/// that cannot be.
void check_combinations(const LaunchSpec& spec);

/// Warns of files of a run that this host does not have: those of the job need them, and may.
void say_what_is_not_here(const std::vector<std::string>& command, std::ostream& err);

/// For pods, which have the working directory from a volume and all else from their image: throws Error if
/// the run's own directory is elsewhere, whatever --dir says, and warns of inputs that are.
void check_volume(const LaunchSpec& spec, std::ostream& err);

/// The index of this process where something has started several of it, with an MPI or without: a launch
/// among them would start ranks of ranks. nullopt where it is alone.
std::optional<int64_t> index_among_ranks(const Surroundings& here);

/// Throws UsageError for a variable that is to be passed on and is not there: its reader would go on without.
void check_variables(const LaunchSpec& spec, const Surroundings& here);

/// Leaves secrets out of what a job is given, and says so. Throws Error where the run would be open to
/// everyone without one of them.
void keep_secrets(LaunchSpec& spec, const Surroundings& here, std::ostream& err);

/// Asks a training for lines in place of a bar where this process's output is no terminal: drawn again and
/// again, a bar is noise in a file, and ranks cannot see where their output goes.
void choose_progress(LaunchSpec& spec);

}  // namespace tutti
