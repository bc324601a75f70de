#include <tutti/comm/distributed_model.h>

#include "comm/device_collective.h"

namespace tutti {
namespace {

GroupOptions group_options(const DistributedModelConfig& config, const Collective& world) {
  check_settings(config.parallel, "parallel");
  return {.precision = config.precision,
          .placement = {.state = config.parallel.zero == 1 ? Sharding::kSharded : Sharding::kReplicated},
          .shard = {world.rank(), world.size()},
          .seed = config.seed,
          .bucket_bytes = config.parallel.bucket_mib << 20};
}

DataParallelConfig resolved(DataParallelConfig config, const Compute& compute) {
  config.resolve_mode(compute.device().type);
  return config;
}

/// The collective for gradients on GPUs; null on the CPU, which uses the world itself. Collective.
std::unique_ptr<Collective> gradient_collective(const ParallelConfig& config, const Compute& compute,
                                                Collective& world) {
  if (compute.on_cpu()) return nullptr;
  return make_device_collective(world, compute.stream(),
                                {.backend = config.gpu_backend,
                                 .ordered = resolved(config.data, compute).mode == "ordered",
                                 .shared_gpus = compute.placement().shared,
                                 .timeout_s = config.timeout_s,
                                 .max_ctas = static_cast<int>(config.max_ctas)});
}

}  // namespace

void ParallelConfig::describe(Fields& f) {
  constexpr double kMostMib = int64_t{1} << 20;
  constexpr double kMostCtas = 1024;
  data.describe(f);
  f.value("zero", zero, "1: each rank stores and updates only its part of the optimizer state (ZeRO-1)",
          between(0, 1));
  f.value("bucket_mib", bucket_mib, "gradients are reduced in buckets of this size", between(1, kMostMib));
  f.choice(
      "gpu_backend", gpu_backend, {"auto", "nccl", "host"},
      "how GPUs add gradients: with NCCL, or through the host and MPI; auto: nccl unless ranks share GPUs");
  f.value("max_ctas", max_ctas,
          "NCCL: maximum thread blocks of a gradient reduction during backward; 0: NCCL's default",
          between(0, kMostCtas));
  f.value("timeout_s", timeout_s,
          "NCCL: time-out after which an operation that a rank has not joined ends the run", positive());
}

DistributedModel::DistributedModel(Collective& world, Module& model, const DistributedModelConfig& config,
                                   const Compute& compute)
    : model_(model),
      stream_(compute.stream()),
      groups_(make_param_groups(model, group_options(config, world), stream_)),
      parallel_(world, groups_, resolved(config.parallel.data, compute), stream_,
                gradient_collective(config.parallel, compute, world)) {}

TrainingState DistributedModel::state(const Optimizer& optimizer) const {
  TrainingState state;
  for (const Parameter* p : model_.parameters()) state.model.push_back(StateTensor::whole(p->name, p->value));
  state.optimizer = optimizer.states();
  return state;
}

void DistributedModel::after_restore() {
  for (const auto& group : groups_) group->round_weights(stream_);
}

}  // namespace tutti
