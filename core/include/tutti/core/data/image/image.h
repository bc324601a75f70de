#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// Maximum number of pixels of an image: a small file can declare a huge one.
inline constexpr int64_t kMaxImagePixels = int64_t{1} << 26;

/// Eight-bit pixels, row by row, with interleaved channels (HWC).
struct Image {
  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  std::vector<uint8_t> pixels;
};

/// Decodes a JPEG, PNG or WebP file, identified by its first bytes, and applies the orientation of its EXIF
/// data. The result has `channels` 1 (grey) or 3 (RGB) for any file: CMYK and YCCK are converted as in PIL,
/// transparency is dropped (colours are kept), 16-bit samples are rounded, palettes are expanded; gamma and
/// colour profiles are ignored. Throws Error naming `name` if the data is damaged, truncated, has too many
/// pixels, is an animation, or has none of the three formats.
Image decode_image(std::span<const std::byte> file, int64_t channels, const std::string& name);

/// decode_image of a file.
Image read_image(const std::filesystem::path& path, int64_t channels);

/// Applies an EXIF orientation from 1 to 8; does nothing for other values.
Image oriented(Image image, int orientation);

/// Resamples with a triangle filter, widened for reduction so that every pixel contributes (no aliasing).
Image resize(const Image& image, int64_t height, int64_t width);

/// The part of height x width pixels whose upper left corner is at (top, left). Throws Error if it exceeds
/// the image.
Image crop(const Image& image, int64_t top, int64_t left, int64_t height, int64_t width);

/// The centre of an image that is at least as large.
Image crop_middle(const Image& image, int64_t height, int64_t width);

}  // namespace tutti
