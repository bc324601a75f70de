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

/// The metadata of a checkpoint after `step` steps.
/// `facts` are those of data_facts().
CheckpointMetadata checkpoint_metadata(const RunSettings& settings, const Sampler& sampler, int64_t step,
                                       const std::map<std::string, std::string>& facts);

/// Where a resumed run continues.
struct Restored {
  int64_t step = 0;                          ///< steps done; 0 if there is no checkpoint
  std::vector<Difference> differences;       ///< noted or allowed ones
  std::string run_id;                        ///< from the checkpoint; empty if it has none
  std::map<std::string, std::string> facts;  ///< of the data, from the checkpoint
};

/// Restores the state of `model` and `optimizer` from the newest checkpoint with valid checksums. Collective.
/// Throws Error on all ranks if the checkpoint has refused differences in settings or data, which are listed,
/// except those in `allowed`, or if it belongs to another run.
Restored restore(Checkpoints& checkpoints, DistributedModel& model, const Optimizer& optimizer,
                 const RunNow& now, std::span<const std::string> allowed);

}  // namespace tutti
