#pragma once

#include <tutti/core/data/image.h>

namespace tutti {

/// decode_image for each format.
Image decode_png(std::span<const std::byte> file, int64_t channels, const std::string& name);
Image decode_jpeg(std::span<const std::byte> file, int64_t channels, const std::string& name);

}  // namespace tutti
