#pragma once

#include <gtest/gtest.h>
#include <tutti/core/data/image/image.h>
#include "tests/core/data_helpers.h"

#include <png.h>

#include <string>

namespace tutti::test {

inline Image random_image(int64_t height, int64_t width, int64_t channels) {
  const std::string pixels = random_bytes(static_cast<size_t>(height * width * channels));
  return {height, width, channels, std::vector<uint8_t>(pixels.begin(), pixels.end())};
}

/// A PNG file; `format` is one of libpng's PNG_FORMAT_*.
inline std::string png_bytes(const Image& image, uint32_t format) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<uint32_t>(image.width);
  png.height = static_cast<uint32_t>(image.height);
  png.format = format;
  png_alloc_size_t size = 0;
  EXPECT_TRUE(png_image_write_get_memory_size(png, size, 0, image.pixels.data(), 0, nullptr));
  std::string bytes(size, '\0');
  EXPECT_TRUE(png_image_write_to_memory(&png, bytes.data(), &size, 0, image.pixels.data(), 0, nullptr));
  bytes.resize(size);
  return bytes;
}

}  // namespace tutti::test
