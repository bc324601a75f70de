#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// Most pixels of an image file that is decoded; a small file can claim to be huge.
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 26;

/// Eight-bit pixels, row by row, channels of a pixel together (HWC).
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  std::vector<uint8_t> pixels;
};

/// Decodes a JPEG or PNG file, told apart by their first bytes. `channels` is 1 (grey) or 3 (RGB), whatever
/// the file holds; transparency is dropped, 16-bit samples are rounded. Throws Error naming `name` if the
/// data is damaged, cut off, of a kind that cannot be converted (CMYK), or neither of the two formats.
Image decode_image(std::span<const std::byte> file, int64_t channels, const std::string& name);

/// decode_image of a file.
Image read_image(const std::filesystem::path& path, int64_t channels);

/// Resamples with a triangle filter, widened when shrinking so that every pixel counts (no aliasing).
Image resize(const Image& image, int64_t height, int64_t width);

/// The part of height x width pixels whose upper left corner stands at (top, left). Throws Error if the image
/// does not hold it.
Image crop(const Image& image, int64_t top, int64_t left, int64_t height, int64_t width);

/// The middle of an image that is at least as large.
Image crop_middle(const Image& image, int64_t height, int64_t width);

}  // namespace tutti
