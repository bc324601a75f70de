#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace software_cuda {

inline constexpr int kMostDevices = 8;

/// From the environment.
struct Settings {
  uint64_t seed;  ///< TUTTI_DEVICE_SEED: of the order in which streams, blocks and threads run
  int devices;    ///< TUTTI_DEVICE_COUNT; none unless it says so
  size_t memory;  ///< TUTTI_DEVICE_MIB of each device
  bool guards;    ///< TUTTI_DEVICE_GUARD=0: the host may access the memory of devices, which is faster
  /// TUTTI_DEVICE_FAULT, what fails: `no-device`, `old-driver`, `architecture` (no kernel image),
  /// `kernel:NAME` (the first kernel whose name contains NAME, when it runs), `nccl` (operations never end),
  /// `cudnn` (no plan runs).
  std::string fault;
  bool blocks;  ///< CUDA_LAUNCH_BLOCKING=1: a launch waits for its kernel

  [[nodiscard]] bool fails(std::string_view what) const { return fault == what; }
};

const Settings& settings();

}  // namespace software_cuda
