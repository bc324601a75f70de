#pragma once

#include <tutti/comm/distributed_model.h>
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/data/sampler.h>
#include "launcher/run/identity.h"
#include "launcher/run/run_settings.h"

#include <map>
#include <span>
#include <string>
#include <vector>

namespace tutti {

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

/// Fills the state of `model` and `optimizer` from the newest checkpoint that verifies. Collective.
/// Throws Error on all ranks, which lists what differs, if the checkpoint was made with settings or data with
/// which training cannot go on, but for what `allowed` names, or belongs to another run.
Restored restore(Checkpoints& checkpoints, DistributedModel& model, const Optimizer& optimizer,
                 const RunNow& now, std::span<const std::string> allowed);

}  // namespace tutti
