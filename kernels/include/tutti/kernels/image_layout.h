#pragma once

#include <cstdint>

namespace tutti {

/// The order of an image tensor's dims: (N, H, W, C) or (N, C, H, W).
enum class ImageLayout : uint8_t { kNhwc, kNchw };

}  // namespace tutti
