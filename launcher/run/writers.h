#pragma once

#include <tutti/core/train/report.h>
#include "launcher/metrics/jsonl.h"
#include "launcher/metrics/progress.h"
#include "launcher/metrics/tensorboard.h"

#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// Output of a training on rank 0 for users and programs; empty on other ranks. A write error causes a
/// warning and does not end training.
struct Writers {
  std::optional<JsonlWriter> jsonl;
  std::optional<TensorBoardWriter> tensorboard;
  std::optional<Progress> progress;
  bool quiet = false;           ///< `progress` shows nothing
  std::ostream* err = nullptr;  ///< null on other ranks

  /// The writers that are set.
  std::vector<Observer*> observers();
  /// Logs a line for the user.
  void log(const std::string& text);
  /// Logs a warning, which is also shown if only errors are requested.
  void warn(const std::string& text);
  /// Flushes all records to disk and ends the progress bar.
  void finish();
};

}  // namespace tutti
