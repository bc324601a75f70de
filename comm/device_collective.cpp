#include "comm/device_collective.h"

#include "comm/cuda/staged.h"
#include "comm/nccl/collective.h"
#include "core/cuda/config.h"

namespace tutti {

std::unique_ptr<Collective> make_device_collective(Collective& world, const Stream& compute,
                                                   const DeviceCollectiveOptions& options) {
  require(options.backend == "auto" || options.backend == "nccl" || options.backend == "host",
          "collectives of GPU tensors: '{}' is not one of auto, nccl, host", options.backend);
  if (world.size() == 1) return make_self_collective();
  if constexpr (kWithCuda) {
    if (compute.device().type == DeviceType::kCuda) {
      const bool through_host = options.backend == "auto" ? options.shared_gpus : options.backend == "host";
      if (through_host) return make_staged_collective(world, compute);
      return make_nccl_collective(world, compute, options);
    }
  }
  fail("collectives of GPU tensors: the compute stream is on {}", name(compute.device()));
}

}  // namespace tutti
