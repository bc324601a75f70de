#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/train/task.h>
#include "launcher/run/run_settings.h"

#include <memory>

namespace tutti {

/// The data sets of a run, and the task whose model fits them.
struct Inputs {
  std::shared_ptr<const Dataset> training;
  std::shared_ptr<const Dataset> validation;  ///< null without one
  std::unique_ptr<Task> task;
};

/// Opens the data and makes the task; fills in what `settings.model` takes from the data. Throws Error where
/// the data cannot be used: damaged files, or a validation set that does not match the training set.
Inputs open_inputs(RunSettings& settings);

}  // namespace tutti
