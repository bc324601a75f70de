#pragma once

#include <tutti/comm/collective.h>

#include <memory>
#include <string>

namespace tutti {

/// How tensors on GPUs travel between ranks.
struct DeviceCollectiveOptions {
  /// auto: nccl, but host where ranks share a GPU, which NCCL refuses.
  /// nccl: from device to device.
  /// host: through page-locked memory and the world's own backend, in chunks; needs nothing of MPI but CPU
  /// memory.
  std::string backend = "auto";
  /// Sums follow the tree of Reduce, for the same bits as on any other backend. NCCL alone adds in an order
  /// of its own, with the same result on all ranks, faster by up to the switch's own adding; maxima, minima
  /// and moves are the same either way.
  bool ordered = true;
  bool shared_gpus = false;  ///< ranks share GPUs
  double timeout_s = 600;    ///< nccl: an operation that other ranks do not join for so long ends the world
  int max_ctas = 0;          ///< nccl: thread blocks that one operation may take; 0: NCCL's choice
};

/// A group of all ranks of `world`, in its order, for tensors on the device of `compute`. `world` outlives it
/// and is its control plane. For a world of one, nothing is sent. Collective; blocks. Throws Error if this
/// build or NCCL cannot.
std::unique_ptr<Collective> make_device_collective(Collective& world, const Stream& compute,
                                                   const DeviceCollectiveOptions& options);

}  // namespace tutti
