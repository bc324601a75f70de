#pragma once

#include <tutti/comm/compute.h>

#include <span>
#include <string>
#include <vector>

namespace tutti {

/// The GPUs that are visible to a rank.
struct RankDevices {
  std::string host;
  std::vector<std::string> uuids;  ///< by device index, after CUDA_VISIBLE_DEVICES
  std::string why_none;            ///< if `uuids` is empty
};

/// The device of `rank`. `wanted` is auto, cpu or cuda. Ranks of a host that see the same GPUs take them in
/// the order of their ranks; a launcher that shows each rank its own GPU is followed. `auto` takes the CPU
/// where no rank has a GPU.
///
/// The result and the errors depend on nothing but the arguments: all ranks throw the same. Throws Error
/// if GPUs are wanted and a rank has none (all such ranks are named, each with its reason), or if two ranks
/// would share one and `share` is false: then with a map of ranks, hosts and UUIDs.
DevicePlacement place_device(std::span<const RankDevices> all, int rank, const std::string& wanted,
                             bool share);

/// The same for this rank, after an exchange of visible GPUs between all ranks. Throws the same Error on all
/// ranks, also if this build has no kernels for a GPU's architecture.
DevicePlacement place_device(Peers& peers, const std::string& wanted, bool share);

}  // namespace tutti
