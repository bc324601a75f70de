#pragma once

#include <tutti/comm/compute.h>

#include <span>
#include <string>
#include <vector>

namespace tutti {

/// The GPUs visible to a rank.
struct RankDevices {
  std::string host;
  std::vector<std::string> uuids;  ///< by device index, after CUDA_VISIBLE_DEVICES
  std::string why_none;            ///< if `uuids` is empty
};

/// The device of `rank`. `wanted` is auto, cpu or cuda. Ranks of a host with the same visible GPUs are
/// assigned them in rank order; if a launcher makes one GPU visible to each rank, that GPU is used. `auto`
/// selects the CPU if no rank has a GPU.
///
/// The result and the errors depend only on the arguments: all ranks throw the same Error. Throws Error if
/// GPUs are requested and a rank has none (with all such ranks and their reasons), or if two ranks would
/// share a GPU and `share` is false (with a map of ranks, hosts and UUIDs).
DevicePlacement place_device(std::span<const RankDevices> all, int rank, const std::string& wanted,
                             bool share);

/// The same for this rank, after all ranks have exchanged their visible GPUs. Throws the same Error on all
/// ranks, also if this build has no kernels for a GPU's architecture.
DevicePlacement place_device(Peers& peers, const std::string& wanted, bool share);

}  // namespace tutti
