#pragma once

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/data/sampler.h>
#include <tutti/core/module.h>
#include <tutti/core/param_group.h>
#include <tutti/kernels/optimizer.h>
#include "launcher/run/identity.h"
#include "launcher/run/run_settings.h"

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// What a checkpoint of this training holds.
TrainingState training_state(Module& model, const Optimizer& optimizer);

/// What a checkpoint says of the run that it belongs to, after `step` steps.
/// `facts` are those of data_facts().
CheckpointMetadata checkpoint_metadata(const RunSettings& settings, const Sampler& sampler, int64_t step,
                                       const std::map<std::string, std::string>& facts);

/// Where a resumed run goes on.
struct Restored {
  int64_t step = 0;                          ///< steps done; 0 without a checkpoint
  std::vector<Difference> differences;       ///< noted or allowed ones
  std::string run_id;                        ///< as the checkpoint tells it; empty if it does not
  std::map<std::string, std::string> facts;  ///< of the data, as the checkpoint tells them
};

/// Fills `state` from the newest checkpoint that verifies and rounds the weights of `groups`. Collective.
/// Throws Error on all ranks, which lists what differs, if the checkpoint was made with settings or data with
/// which training cannot go on, but for what `allowed` names, or belongs to another run.
Restored restore(Checkpoints& checkpoints, const TrainingState& state,
                 std::span<const std::unique_ptr<ParamGroup>> groups, const RunNow& now,
                 std::span<const std::string> allowed, const Stream& stream);

}  // namespace tutti
