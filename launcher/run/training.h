#pragma once

#include <tutti/comm/collective.h>
#include "launcher/metrics/progress.h"
#include "launcher/run/run_settings.h"

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace tutti {

/// What the command line says of a training.
struct TrainOptions {
  std::filesystem::path run_file;
  std::vector<std::string> sets;  ///< key=value
  bool resume = false;
  ProgressStyle progress = ProgressStyle::kAuto;
  std::vector<std::string> command_line;
};

/// The run file with its overrides; run.dir is filled in.
RunSettings read_settings(const TrainOptions& options);

/// Trains as this rank of `world`: data, model, optimizer, checkpoints and metrics put together from the run
/// file. Returns why it ended. Errors that all ranks share come as one Error with the same message on all.
TrainResult::Reason train(const TrainOptions& options, Collective& world, std::ostream& out);

}  // namespace tutti
