#pragma once

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/data/sampler.h>
#include <tutti/core/module.h>
#include <tutti/core/param_group.h>
#include <tutti/kernels/optimizer.h>
#include "launcher/run/run_settings.h"

#include <memory>
#include <span>

namespace tutti {

/// What a checkpoint of this training holds.
TrainingState training_state(Module& model, const Optimizer& optimizer);

/// What a checkpoint says of the run that it belongs to, after `step` steps.
CheckpointMetadata checkpoint_metadata(const RunSettings& settings, const Sampler& sampler, int64_t step);

/// Fills `state` from the newest checkpoint that verifies and rounds the weights of `groups`. Returns the
/// steps that it has done; 0 without a checkpoint. Collective. Throws Error on all ranks if the checkpoint
/// was made with settings or data with which training cannot go on.
int64_t restore(Checkpoints& checkpoints, const TrainingState& state,
                std::span<const std::unique_ptr<ParamGroup>> groups, const RunSettings& settings,
                const Sampler& sampler, const Stream& stream);

}  // namespace tutti
