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

/// Decodes a JPEG, PNG or WebP file, told apart by their first bytes, and turns it upright as its EXIF data
/// says. `channels` is 1 (grey) or 3 (RGB), whatever the file holds: CMYK and YCCK are converted as PIL does,
/// transparency is dropped (colours stay), 16-bit samples are rounded, palettes looked up; gamma and colour
/// profiles are ignored. Throws Error naming `name` if the data is damaged, cut off, has too many pixels, is
/// an animation, or none of the three formats.
Image decode_image(std::span<const std::byte> file, int64_t channels, const std::string& name);

/// decode_image of a file.
Image read_image(const std::filesystem::path& path, int64_t channels);

/// Turns an image as an EXIF orientation from 1 to 8 says; others leave it as it is.
Image oriented(Image image, int orientation);

/// Resamples with a triangle filter, widened when shrinking so that every pixel counts (no aliasing).
Image resize(const Image& image, int64_t height, int64_t width);

/// The part of height x width pixels whose upper left corner stands at (top, left). Throws Error if the image
/// does not hold it.
Image crop(const Image& image, int64_t top, int64_t left, int64_t height, int64_t width);

/// The middle of an image that is at least as large.
Image crop_middle(const Image& image, int64_t height, int64_t width);

}  // namespace tutti
