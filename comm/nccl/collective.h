#pragma once

#include <tutti/comm/collective.h>
#include "comm/device_collective.h"

#include <memory>

namespace tutti {

/// All ranks of `world` over NCCL, for tensors on the device of `compute` and CUDA streams of that device.
/// `world` outlives it. Collective; blocks. Throws Error with NCCL's message if NCCL fails.
std::unique_ptr<Collective> make_nccl_collective(Collective& world, const Stream& compute,
                                                 const DeviceCollectiveOptions& options);

}  // namespace tutti
