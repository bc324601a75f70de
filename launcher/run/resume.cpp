#include "launcher/run/resume.h"

#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include "launcher/info/build.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

/// Whether a directory of checkpoints is in the directory of a run that is not `run`.
bool is_in_another_run(const fs::path& checkpoints, const fs::path& run) {
  std::error_code none;
  const fs::path parent = fs::weakly_canonical(checkpoints, none).parent_path();
  return !checkpoints.empty() && fs::exists(parent / "manifest.json", none) &&
         fs::exists(parent / "run.yaml", none) && !fs::equivalent(parent, run, none);
}

/// Throws Error if a checkpoint of run `owner` (empty: unknown) belongs to another run; this one would delete
/// it.
void require_own_checkpoint(int64_t step, const std::string& owner, const RunNow& now) {
  if (owner.empty()) return;
  const std::string& run = now.settings.run.dir;
  const std::string& own = now.settings.checkpoint.dir;
  const std::string place = own.empty() ? (fs::path(run) / "checkpoints").string() : own;
  require(now.run_id.empty() || owner == now.run_id,
          "--resume: the checkpoint of step {} in {} belongs to another run than {}: its checkpoints would "
          "be deleted by this one. Choose another checkpoint.dir",
          step, place, run);
  require(!now.run_id.empty() || !is_in_another_run(place, run),
          "--resume: the checkpoint of step {} in {} belongs to the run of its directory, which is not {}: "
          "its checkpoints would be deleted by this one. Choose another checkpoint.dir; model.weights "
          "begins a run with the weights of a checkpoint",
          step, place, run);
}

}  // namespace

CheckpointMetadata checkpoint_metadata(const RunSettings& settings, const Sampler& sampler, int64_t step,
                                       const std::map<std::string, std::string>& facts) {
  CheckpointMetadata data;
  data.step = step;
  data.next_sample = sampler.next_sample(step);
  data.seed = static_cast<uint64_t>(settings.run.seed);
  data.run_file = to_yaml(settings);
  data.version = build_version();
  data.extra = facts;
  data.extra["batch"] = std::to_string(settings.train.batch);
  return data;
}

Restored restore(Checkpoints& checkpoints, DistributedModel& model, const Optimizer& optimizer,
                 const RunNow& now, std::span<const std::string> allowed) {
  Restored restored;
  // Before tensors are compared: a changed key is more informative than a shape mismatch.
  const auto accept = [&](const CheckpointMetadata& metadata) {
    if (const auto run = metadata.extra.find("run"); run != metadata.extra.end())
      restored.run_id = run->second;
    require_own_checkpoint(metadata.step, restored.run_id, now);
    restored.differences = compare(metadata, now);
    refuse_changes(metadata, restored.differences, allowed);
  };
  const std::optional<CheckpointMetadata> found = checkpoints.restore(model.state(optimizer), accept);
  if (!found) return restored;
  model.after_restore();
  restored.step = found->step;
  restored.facts = found->extra;
  return restored;
}

}  // namespace tutti
