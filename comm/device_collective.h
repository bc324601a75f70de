#pragma once

#include <tutti/comm/collective.h>

#include <memory>
#include <string>

namespace tutti {

/// Options of collectives of GPU tensors.
struct DeviceCollectiveOptions {
  /// auto: nccl, or host if ranks share a GPU, which NCCL does not support.
  /// nccl: from device to device.
  /// host: through page-locked memory and the backend of the world, in chunks; does not need a CUDA-aware
  /// MPI.
  std::string backend = "auto";
  /// Sums follow the tree of Reduce, with the same bits as any other backend. If false, NCCL chooses the
  /// order of additions, with the same result on all ranks; this is faster, in particular with reductions in
  /// the switch. Maxima, minima and copies do not depend on it.
  bool ordered = true;
  bool shared_gpus = false;  ///< ranks share GPUs
  double timeout_s =
      600;  ///< nccl: time-out after which an operation that other ranks have not joined ends the world
  int max_ctas = 0;  ///< nccl: maximum thread blocks of one operation; 0: NCCL's default
};

/// A group of all ranks of `world`, in its order, for tensors on the device of `compute`. `world` outlives it
/// and is its control plane. For a world of one rank, nothing is sent. Collective; blocks. Throws Error if
/// the build does not support it or NCCL fails.
std::unique_ptr<Collective> make_device_collective(Collective& world, const Stream& compute,
                                                   const DeviceCollectiveOptions& options);

}  // namespace tutti
