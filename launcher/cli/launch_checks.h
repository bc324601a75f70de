#pragma once

#include "launcher/launch/environment.h"
#include "launcher/launch/spec.h"
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

/// Reads the run file as each combination of a sweep changes it. Throws Error naming the first invalid key or
/// value.
void check_combinations(const LaunchSpec& spec);

/// Warns of input files of a run that this host does not have; the hosts of the job must have them.
void warn_of_missing_inputs(const std::vector<std::string>& command, std::ostream& err);

/// For pods, which have the working directory from a volume and all else from their image: throws Error if
/// the run's own directory is not on the volume, whatever --dir is, and warns of inputs that are not.
void check_volume(const LaunchSpec& spec, std::ostream& err);

/// The rank of this process if it is one of several that were started together, with an MPI or without: a
/// launch must be started once. nullopt if it is the only one.
std::optional<int64_t> own_rank(const Environment& here);

/// Throws UsageError for a variable of --env that is not set.
void check_variables(const LaunchSpec& spec, const Environment& here);

/// Removes secrets from the variables of a job, with a message. Throws Error if the metrics of the run would
/// be public without one of them.
void withhold_secrets(LaunchSpec& spec, const Environment& here, std::ostream& err);

/// Sets --progress lines for a training if the output of this process is not a terminal, which its ranks
/// cannot find out.
void choose_progress(LaunchSpec& spec);

}  // namespace tutti
