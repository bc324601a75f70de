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
  std::vector<std::string> allow_change;  ///< keys that may differ from the checkpoint that is resumed
  ProgressStyle progress = ProgressStyle::kAuto;
  std::vector<std::string> command_line;
};

/// The run file with its overrides; run.dir is filled in. A run's own run.yaml, or its directory, means that
/// run: see OwnRun, whose warnings are added to `warnings`.
RunSettings read_settings(const TrainOptions& options, std::vector<std::string>* warnings = nullptr);

/// Trains as this rank of `world`: data, model, optimizer, checkpoints and metrics put together from the run
/// file. Returns why it ended. Errors that all ranks share come as one Error with the same message on all.
/// `err` gets warnings that are shown with ProgressStyle::kNone too.
TrainResult::Reason train(const TrainOptions& options, Collective& world, std::ostream& out,
                          std::ostream& err);

}  // namespace tutti
