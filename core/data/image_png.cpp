#include <tutti/core/data/image_formats.h>
#include <tutti/core/error.h>

#include <png.h>

namespace tutti {

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
  png.format = channels == 1 ? PNG_FORMAT_GA : PNG_FORMAT_RGBA;
  // With the alpha channel read and thrown away, transparent pixels keep their colour instead of being mixed
  // with a background.
  std::vector<uint8_t> with_alpha(PNG_IMAGE_SIZE(png));
  require(png_image_finish_read(&png, nullptr, with_alpha.data(), 0, nullptr) != 0,
          "{}: cannot decode this PNG file: {}", name, png.message);
  Image image{height, width, channels, std::vector<uint8_t>(static_cast<size_t>(height * width * channels))};
  for (int64_t i = 0; i < height * width; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      image.pixels[static_cast<size_t>(i * channels + c)] =
          with_alpha[static_cast<size_t>(i * (channels + 1) + c)];
    }
  }
  return image;
}

}  // namespace tutti
