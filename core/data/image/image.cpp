#include <tutti/core/data/image/image.h>
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/data/image/exif.h"
#include "core/data/image/formats.h"

#include <algorithm>
#include <cmath>
#include <string_view>

namespace tutti {
namespace {

bool begins_with(std::span<const std::byte> file, std::string_view magic) {
  return file.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), file.begin(),
                    [](char a, std::byte b) { return static_cast<std::byte>(a) == b; });
}

/// The format of an unsupported file, for messages.
std::string_view other_format(std::span<const std::byte> file) {
  if (begins_with(file, "GIF8")) return " but a GIF file";
  if (begins_with(file, "BM")) return " but a BMP file";
  if (begins_with(file, "II*") || begins_with(file, "MM")) return " but a TIFF file";
  const auto brand = file.subspan(std::min<size_t>(file.size(), 4));
  if (begins_with(brand, "ftypavif")) return " but an AVIF file";
  if (begins_with(brand, "ftyphei")) return " but a HEIF file";
  if (begins_with(brand, "jP  ")) return " but a JPEG 2000 file";
  if (begins_with(file, "\x1f\x8b")) return " but a gzip file";
  if (begins_with(file, "<")) return " but text, such as a saved error page";
  return "";
}

/// The weights of a row or column of the source in one pixel of the result.
struct Taps {
  int64_t first = 0;
  std::vector<float> weights;
};

std::vector<Taps> triangle_taps(int64_t from, int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double radius = std::max(scale, 1.0);
  std::vector<Taps> all(static_cast<size_t>(to));
  for (int64_t i = 0; i < to; ++i) {
    Taps& taps = all[static_cast<size_t>(i)];
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    taps.first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(centre - radius)));
    const auto end = std::min(from, static_cast<int64_t>(std::ceil(centre + radius)));
    double sum = 0;
    for (int64_t k = taps.first; k < end; ++k) {
      const double weight = std::max(0.0, 1 - std::abs(static_cast<double>(k) + 0.5 - centre) / radius);
      taps.weights.push_back(static_cast<float>(weight));
      sum += weight;
    }
    for (float& weight : taps.weights) weight = static_cast<float>(weight / sum);
  }
  return all;
}

}  // namespace

void check_image_size(int64_t height, int64_t width, const std::string& name) {
  require(height >= 1 && width >= 1 && height * width <= kMaxImagePixels,
          "{}: an image of {} x {} pixels; at most {} are supported", name, height, width, kMaxImagePixels);
}

Image decode_image(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  require(channels == 1 || channels == 3, "{}: {} channels requested; expected 1 or 3", name, channels);
  require(!file.empty(), "{}: the file is empty", name);
  const auto decoded = [&] {
    if (begins_with(file, "\x89PNG\r\n\x1a\n")) return decode_png(file, channels, name);
    if (begins_with(file, "\xff\xd8\xff")) return decode_jpeg(file, channels, name);
    if (begins_with(file, "RIFF") && begins_with(file.subspan(std::min<size_t>(file.size(), 8)), "WEBP")) {
      return decode_webp(file, channels, name);
    }
    fail("{}: not a JPEG, PNG or WebP file{}", name, other_format(file));
  };
  return oriented(decoded(), exif_orientation(find_exif(file)));
}

Image oriented(Image image, int orientation) {
  if (orientation <= 1 || orientation > 8) return image;
  const bool swapped = orientation >= 5;  // rows become columns
  Image result{swapped ? image.width : image.height, swapped ? image.height : image.width, image.channels,
               std::vector<uint8_t>(image.pixels.size())};
  // Whether the source is read from its far end.
  const bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  uint8_t* to = result.pixels.data();
  for (int64_t y = 0; y < result.height; ++y) {
    for (int64_t x = 0; x < result.width; ++x, to += image.channels) {
      const int64_t v = swapped ? x : y;
      const int64_t u = swapped ? y : x;
      const int64_t row = from_bottom ? image.height - 1 - v : v;
      const int64_t column = from_right ? image.width - 1 - u : u;
      std::copy_n(image.pixels.data() + (row * image.width + column) * image.channels, image.channels, to);
    }
  }
  return result;
}

Image read_image(const std::filesystem::path& path, int64_t channels) {
  return decode_image(MappedFile::open(path)->bytes(), channels, path.string());
}

Image resize(const Image& image, int64_t height, int64_t width) {
  require(height >= 1 && width >= 1 && image.height >= 1 && image.width >= 1, "resize: {} x {} to {} x {}",
          image.height, image.width, height, width);
  if (height == image.height && width == image.width) return image;
  const int64_t c = image.channels;
  const std::vector<Taps> across = triangle_taps(image.width, width);
  const std::vector<Taps> down = triangle_taps(image.height, height);
  std::vector<float> rows(static_cast<size_t>(image.height * width * c));
  for (int64_t y = 0; y < image.height; ++y) {
    const uint8_t* from = image.pixels.data() + y * image.width * c;
    float* to = rows.data() + y * width * c;
    for (int64_t x = 0; x < width; ++x) {
      const Taps& taps = across[static_cast<size_t>(x)];
      for (int64_t k = 0; k < c; ++k) {
        float sum = 0;
        for (size_t t = 0; t < taps.weights.size(); ++t) {
          sum += taps.weights[t] * static_cast<float>(from[(taps.first + static_cast<int64_t>(t)) * c + k]);
        }
        to[x * c + k] = sum;
      }
    }
  }
  Image result{height, width, c, std::vector<uint8_t>(static_cast<size_t>(height * width * c))};
  for (int64_t y = 0; y < height; ++y) {
    const Taps& taps = down[static_cast<size_t>(y)];
    for (int64_t i = 0; i < width * c; ++i) {
      float sum = 0;
      for (size_t t = 0; t < taps.weights.size(); ++t) {
        sum += taps.weights[t] *
               rows[static_cast<size_t>((taps.first + static_cast<int64_t>(t)) * width * c + i)];
      }
      result.pixels[static_cast<size_t>(y * width * c + i)] =
          static_cast<uint8_t>(std::clamp(std::lround(sum), 0L, 255L));
    }
  }
  return result;
}

Image crop(const Image& image, int64_t top, int64_t left, int64_t height, int64_t width) {
  require(top >= 0 && left >= 0 && height >= 1 && width >= 1 && top + height <= image.height &&
              left + width <= image.width,
          "crop: {} x {} at ({}, {}) out of {} x {}", height, width, top, left, image.height, image.width);
  Image result{height, width, image.channels, {}};
  result.pixels.reserve(static_cast<size_t>(height * width * image.channels));
  for (int64_t y = 0; y < height; ++y) {
    const auto row = image.pixels.begin() + ((top + y) * image.width + left) * image.channels;
    result.pixels.insert(result.pixels.end(), row, row + width * image.channels);
  }
  return result;
}

Image crop_middle(const Image& image, int64_t height, int64_t width) {
  return crop(image, (image.height - height) / 2, (image.width - width) / 2, height, width);
}

}  // namespace tutti
