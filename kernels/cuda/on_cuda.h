#pragma once

#include <tutti/core/stream.h>
#include "core/cuda/config.h"

namespace tutti {

/// Whether ops on this stream run their CUDA kernels. Call it inside `if constexpr (kWithCuda)`.
inline bool on_cuda(const Stream& stream) {
  return stream.device().type == DeviceType::kCuda;
}

}  // namespace tutti
