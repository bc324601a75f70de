#include "launcher/run/parts.h"

#include "comm/device_collective.h"

namespace tutti {

GroupOptions group_options(const RunSettings& settings, const Collective& world) {
  return {.precision = {.compute = settings.precision.compute,
                        .master = DType::kFloat32,
                        .grad = settings.precision.grad},
          .placement = {.state = settings.parallel.zero == 1 ? Spread::kSharded : Spread::kReplicated},
          .shard = {world.rank(), world.size()},
          .seed = static_cast<uint64_t>(settings.run.seed),
          .bucket_bytes = settings.parallel.bucket_mib << 20};
}

std::unique_ptr<Collective> gradient_collective(const RunSettings& settings, const DevicePlacement& place,
                                                Collective& world, const Stream& compute) {
  if (place.device.type == DeviceType::kCpu) return nullptr;
  return make_device_collective(world, compute,
                                {.backend = settings.parallel.gpu_backend,
                                 .ordered = settings.parallel.data.mode == "ordered",
                                 .shared_gpus = place.shared,
                                 .timeout_s = settings.parallel.timeout_s,
                                 .max_ctas = static_cast<int>(settings.parallel.max_ctas)});
}

}  // namespace tutti
