#include "launcher/run/resume.h"

#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include "launcher/info/build.h"

#include <algorithm>
#include <optional>
#include <string>

namespace tutti {

TrainingState training_state(Module& model, const Optimizer& optimizer) {
  TrainingState state;
  for (const Parameter* p : model.parameters()) state.model.push_back(StateTensor::whole(p->name, p->value));
  state.optimizer = optimizer.states();
  return state;
}

CheckpointMetadata checkpoint_metadata(const RunSettings& settings, const Sampler& sampler, int64_t step) {
  const int64_t epochs = step / sampler.steps_per_epoch();
  const int64_t in_epoch = std::min(sampler.size(), step % sampler.steps_per_epoch() * sampler.batch());
  CheckpointMetadata data;
  data.step = step;
  data.next_sample = epochs * sampler.size() + in_epoch;
  data.seed = static_cast<uint64_t>(settings.run.seed);
  data.run_file = to_yaml(settings);
  data.version = build_version();
  data.extra = {{"batch", std::to_string(settings.train.batch)},
                {"training_samples", std::to_string(sampler.size())}};
  return data;
}

int64_t restore(Checkpoints& checkpoints, const TrainingState& state,
                std::span<const std::unique_ptr<ParamGroup>> groups, const RunSettings& settings,
                const Sampler& sampler, const Stream& stream) {
  const std::optional<CheckpointMetadata> found = checkpoints.restore(state);
  if (!found) return 0;
  // The data order is a function of seed, batch, step and the number of samples: with another one, samples
  // would come twice or never.
  const auto same = [&](const std::string& key, const std::string& now, const std::string& then) {
    require(now == then, "--resume: {} is {}, the checkpoint of step {} was made with {}", key, now,
            found->step, then);
  };
  same("run.seed", std::to_string(settings.run.seed), std::to_string(found->seed));
  const auto same_extra = [&](const std::string& name, const std::string& key, int64_t now) {
    if (const auto then = found->extra.find(name); then != found->extra.end())
      same(key, std::to_string(now), then->second);
  };
  same_extra("batch", "train.batch", settings.train.batch);
  same_extra("training_samples", "the number of training samples in " + settings.data.path, sampler.size());
  for (const auto& group : groups) group->round_weights(stream);
  return found->step;
}

}  // namespace tutti
