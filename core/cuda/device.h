#pragma once

#include <tutti/core/memory/memory_stats.h>
#include "core/cuda/config.h"

#include <cstdint>
#include <string>

// Properties and memory of the CUDA devices. Only in builds with CUDA; needs no CUDA header.
namespace tutti::cuda {

/// Number of devices visible to this process; 0 without a driver or a device.
int device_count();

/// Why no device is usable, for example because the driver is too old for this build; "" if there is one.
std::string why_no_device();

struct DeviceInfo {
  std::string name;
  std::string uuid;    ///< "GPU-..." as nvidia-smi prints it: equal on ranks that share a device
  std::string pci;     ///< PCI address, "0000:17:00.0"
  int capability = 0;  ///< 90 for compute capability 9.0
  int multiprocessors = 0;
  int64_t memory_bytes = 0;
};
/// Throws Error if there is no such device.
DeviceInfo device_info(int device);

/// Throws Error, naming the device and what is missing, if `device` does not exist or no kernel of this build
/// runs on it.
void require_usable(int device);

/// Statistics of the caching allocator of a device.
MemoryStats memory_stats(int device);
void reset_peak_memory(int device);
/// A report that names the owners of the most memory in use.
std::string memory_report(int device);
/// Returns cached blocks to the driver. Synchronizes with the device: do not call it inside a step.
void release_cached_memory(int device);

}  // namespace tutti::cuda
