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

/// What rank 0 writes of a training for people and programs; empty on other ranks. What cannot be written is
/// warned of and ends no training.
struct Writers {
  std::optional<JsonlWriter> jsonl;
  std::optional<TensorBoardWriter> tensorboard;
  std::optional<Progress> progress;
  bool quiet = false;           ///< `progress` shows nothing
  std::ostream* err = nullptr;  ///< null on other ranks

  /// Those that there are.
  std::vector<Observer*> observers();
  /// A line for people.
  void say(const std::string& text);
  /// What went wrong beside the training: for those who asked for errors only, too.
  void warn(const std::string& text);
  /// Puts all records on the disk and ends the progress bar.
  void finish();
};

}  // namespace tutti
