#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/param_group.h>
#include <tutti/core/train/task.h>
#include "launcher/run/run_settings.h"

#include <memory>
#include <string>

namespace tutti {

/// The data sets of a run, and the task with a matching model.
struct Inputs {
  std::shared_ptr<const Dataset> training;
  std::shared_ptr<const Dataset> validation;  ///< null if there is none
  std::unique_ptr<Task> task;
};

/// Opens the data and creates the task; fills in the keys of `settings.model` that depend on the data. Throws
/// Error if the data cannot be used: damaged files, a validation set that does not match the training set, or
/// tokens of another tokenizer than that of model.weights. `damage_advice` follows the message of a
/// DamagedSample.
Inputs open_inputs(RunSettings& settings, const std::string& damage_advice = {});

/// A message for the start if the training set is smaller than a batch; else empty.
std::string small_set_note(int64_t samples, int64_t batch);

/// Reads this rank's share of the validation set for at most some seconds, so that damage is found before the
/// first evaluation. Throws Error naming the file, or the sample whose tokens or class the model does not
/// have.
void check_validation(const Inputs& inputs, ShardOf share, const Stream& host);

}  // namespace tutti
