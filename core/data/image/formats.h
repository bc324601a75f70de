#pragma once

#include <tutti/core/data/image/image.h>

namespace tutti {

/// decode_image for each format, without its orientation.
Image decode_png(std::span<const std::byte> file, int64_t channels, const std::string& name);
Image decode_jpeg(std::span<const std::byte> file, int64_t channels, const std::string& name);
Image decode_webp(std::span<const std::byte> file, int64_t channels, const std::string& name);

/// The grey value of a colour, as in JPEG (ITU-R BT.601); the weights are in units of 2^-16.
constexpr uint8_t luma(uint32_t red, uint32_t green, uint32_t blue) {
  return static_cast<uint8_t>((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16);
}

/// Throws Error naming `name` unless an image of these sizes may be decoded.
void check_image_size(int64_t height, int64_t width, const std::string& name);

}  // namespace tutti
