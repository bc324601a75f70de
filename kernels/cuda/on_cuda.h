#pragma once

#include <tutti/core/stream.h>
#include "core/cuda/config.h"

namespace tutti {

/// Whether an op on this stream is done by its CUDA kernels. To be asked inside `if constexpr (kWithCuda)`.
inline bool on_cuda(const Stream& stream) {
  return stream.device().type == DeviceType::kCuda;
}

}  // namespace tutti
