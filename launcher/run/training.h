#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/train/trainer.h>
#include "launcher/metrics/progress.h"
#include "launcher/run/run_settings.h"

#include <filesystem>
#include <iosfwd>
#include <string>
#include <vector>

namespace tutti {

/// Command-line options of a training.
struct TrainOptions {
  std::filesystem::path run_file;
  std::vector<std::string> sets;  ///< key=value
  bool resume = false;
  std::vector<std::string> allow_change;  ///< keys that may differ from the checkpoint that is resumed
  ProgressStyle progress = ProgressStyle::kAuto;
  std::vector<std::string> command_line;
};

/// The run file with its overrides; run.dir is filled in. The run.yaml in the directory of a run, or that
/// directory, denotes that run: see OwnRun, whose warnings are added to `warnings`.
RunSettings read_settings(const TrainOptions& options, std::vector<std::string>* warnings = nullptr);

/// Trains as this rank of `world`: data, model, optimizer, checkpoints and metrics are created from the run
/// file. Returns why it ended. An Error shared by all ranks has the same message on all. `err` receives
/// warnings, also with ProgressStyle::kNone.
TrainResult::Reason train(const TrainOptions& options, Collective& world, std::ostream& out,
                          std::ostream& err);

}  // namespace tutti
