#pragma once

#include <tutti/core/memory/memory_stats.h>
#include "core/cuda/config.h"

#include <cstdint>
#include <string>

// What is known of the CUDA devices. Only in builds with CUDA; needs no CUDA header.
namespace tutti::cuda {

/// Devices that this process sees; 0 without a driver or a device.
int device_count();

/// Why there is no usable device, or that of the driver being too old for this build; "" if there is one.
std::string why_no_device();

struct DeviceInfo {
  std::string name;
  std::string uuid;    ///< "GPU-..." as nvidia-smi prints it: tells whether two ranks share a device
  std::string pci;     ///< "0000:17:00.0": where it is in the machine
  int capability = 0;  ///< 90 for compute capability 9.0
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
};
/// Throws Error if there is no such device.
DeviceInfo device_info(int device);

/// Throws Error, naming the device and what is missing, if `device` does not exist or no kernel of this build
/// runs on it.
void require_usable(int device);

/// Of the caching allocator of a device.
MemoryStats memory_stats(int device);
void reset_peak_memory(int device);
/// Names the owners of the most memory in use.
std::string memory_report(int device);
/// Returns cached blocks to the driver. Waits for the device: not for use inside a step.
void release_cached_memory(int device);

}  // namespace tutti::cuda
