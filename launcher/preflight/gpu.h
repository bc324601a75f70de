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
/// None if there is no such library; it is part of the driver. `library` is its file name.
/// Source: NVML API Reference.
GpuList list_gpus(const std::string& library = "libnvidia-ml.so.1");

}  // namespace tutti
