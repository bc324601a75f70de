#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/param_group.h>
#include <tutti/core/train/task.h>
#include "launcher/run/run_settings.h"

#include <memory>
#include <string>

namespace tutti {

/// The data sets of a run, and the task whose model fits them.
struct Inputs {
  std::shared_ptr<const Dataset> training;
  std::shared_ptr<const Dataset> validation;  ///< null without one
  std::unique_ptr<Task> task;
};

/// Opens the data and makes the task; fills in what `settings.model` takes from the data. Throws Error where
/// the data cannot be used: damaged files, a validation set that does not match the training set, or tokens
/// of another tokenizer than that of model.weights. `damage_advice` follows the message of a DamagedSample.
Inputs open_inputs(RunSettings& settings, const std::string& damage_advice = {});

/// What to say at the start if the training set does not fill a batch; empty if it does.
std::string small_set_note(int64_t samples, int64_t batch);

/// Reads this rank's share of the validation set as far as it comes within some seconds, so that what is
/// damaged there is found now and not in the first evaluation. Throws Error naming the file, or the sample
/// whose tokens or class the model does not have.
void check_validation(const Inputs& inputs, ShardOf share, const Stream& host);

}  // namespace tutti
