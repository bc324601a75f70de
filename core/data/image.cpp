#include <tutti/core/checkpoint/file.h>
#include <tutti/core/data/image.h>
#include <tutti/core/data/image_formats.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace tutti {
namespace {

bool begins_with(std::span<const std::byte> file, std::span<const uint8_t> magic) {
  return file.size() >= magic.size() &&
         std::equal(magic.begin(), magic.end(), file.begin(),
                    [](uint8_t a, std::byte b) { return a == static_cast<uint8_t>(b); });
}

/// What one pixel of the result takes from a row or column of the source.
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

Image decode_image(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  require(channels == 1 || channels == 3, "{}: {} channels asked for; 1 and 3 are possible", name, channels);
  require(!file.empty(), "{}: the file is empty", name);
  constexpr std::array<uint8_t, 8> kPng{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  constexpr std::array<uint8_t, 3> kJpeg{0xff, 0xd8, 0xff};
  if (begins_with(file, kPng)) return decode_png(file, channels, name);
  if (begins_with(file, kJpeg)) return decode_jpeg(file, channels, name);
  fail("{}: neither a JPEG nor a PNG file", name);
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
