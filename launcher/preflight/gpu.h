#pragma once

#include "launcher/preflight/report.h"

#include <string>
#include <vector>

namespace tutti {

/// The GPUs of a machine.
struct GpuList {
  std::vector<GpuReport> gpus;
  std::string error;  ///< why the driver does not report them
};

/// All GPUs of this machine, visible to this process or not, by NVIDIA's management library (NVML).
/// None where there is no such library; it comes with the driver. `library` is its file.
/// Source: NVML API Reference.
GpuList list_gpus(const std::string& library = "libnvidia-ml.so.1");

}  // namespace tutti
