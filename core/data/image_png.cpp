#include <tutti/core/data/image_formats.h>
#include <tutti/core/error.h>

#include <png.h>

#include <algorithm>

namespace tutti {
namespace {

/// Grey of a colour as JPEG has it (ITU-R BT.601), in units of 2^-16; libpng would mix in linear light.
uint8_t luma(uint32_t red, uint32_t green, uint32_t blue) {
  return static_cast<uint8_t>((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16);
}

}  // namespace

Image decode_png(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  png_image png{};
  png.version = PNG_IMAGE_VERSION;
  struct Free {
    png_image* image;
    ~Free() { png_image_free(image); }
  } const free{&png};
  require(png_image_begin_read_from_memory(&png, file.data(), file.size()) != 0,
          "{}: cannot decode this PNG file: {}", name, png.message);
  const int64_t height = png.height;
  const int64_t width = png.width;
  require(height >= 1 && width >= 1 && height * width <= kMaxImagePixels,
          "{}: an image of {} x {} pixels; at most {} are possible", name, height, width, kMaxImagePixels);
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // else samples of 16 bits would be taken for linear light
  // With the alpha channel read and thrown away, transparent pixels keep their colour instead of being mixed
  // with a background.
  png.format = PNG_FORMAT_RGBA;
  std::vector<uint8_t> rgba(PNG_IMAGE_SIZE(png));
  require(png_image_finish_read(&png, nullptr, rgba.data(), 0, nullptr) != 0,
          "{}: cannot decode this PNG file: {}", name, png.message);
  Image image{height, width, channels, std::vector<uint8_t>(static_cast<size_t>(height * width * channels))};
  for (size_t i = 0; i < static_cast<size_t>(height * width); ++i) {
    const uint8_t* from = rgba.data() + 4 * i;
    if (channels == 1) {
      image.pixels[i] = luma(from[0], from[1], from[2]);
    } else {
      std::copy_n(from, 3, image.pixels.data() + 3 * i);
    }
  }
  return image;
}

}  // namespace tutti
