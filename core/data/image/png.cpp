#include <tutti/core/error.h>
#include "core/data/image/formats.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

namespace tutti {
namespace {

constexpr png_alloc_size_t kMaxChunkBytes = 64 << 20;  // of text, profiles: nothing that pixels need

/// The state of libpng's callbacks. libpng reports errors by a callback that must not return.
struct Source {
  std::span<const std::byte> rest;
  char message[256] = "";
};

[[noreturn]] void on_error(png_structp png, png_const_charp message) {
  auto* source = static_cast<Source*>(png_get_error_ptr(png));
  std::strncpy(source->message, message, sizeof source->message - 1);
  png_longjmp(png, 1);
}

void on_warning(png_structp, png_const_charp) {}

void read_bytes(png_structp png, png_bytep out, size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (count > source->rest.size()) png_error(png, "unexpected end of data");
  std::memcpy(out, source->rest.data(), count);
  source->rest = source->rest.subspan(count);
}

/// Objects owned by the caller, since no object with a destructor may be created between setjmp and longjmp.
struct Pixels {
  int64_t height = 0, width = 0, channels = 0;
  std::vector<uint8_t> values;
  std::vector<png_bytep> rows;
};

/// Grey stays grey, other colour types become RGB: eight bits per sample, transparency dropped. Gamma and
/// colour profiles are ignored, as in PIL and OpenCV. False on an error; with sizes but without values if the
/// image is too large.
bool decode(png_structp png, png_infop info, Pixels& pixels) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_chunk_malloc_max(png, kMaxChunkBytes);
  png_read_info(png, info);
  pixels.height = png_get_image_height(png, info);
  pixels.width = png_get_image_width(png, info);
  if (pixels.height * pixels.width > kMaxImagePixels) return true;
  png_set_expand(png);  // palettes to colours, 1, 2 and 4 bits to 8
  png_set_scale_16(png);
  png_set_strip_alpha(png);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  pixels.channels = png_get_channels(png, info);
  const size_t row_bytes = png_get_rowbytes(png, info);
  if ((pixels.channels != 1 && pixels.channels != 3) ||
      row_bytes != static_cast<size_t>(pixels.width * pixels.channels)) {
    png_error(png, "an unknown pixel format");
  }
  pixels.values.resize(row_bytes * static_cast<size_t>(pixels.height));
  pixels.rows.resize(static_cast<size_t>(pixels.height));
  for (size_t y = 0; y < pixels.rows.size(); ++y) pixels.rows[y] = pixels.values.data() + y * row_bytes;
  png_read_image(png, pixels.rows.data());
  png_read_end(png, nullptr);
  return true;
}

}  // namespace

Image decode_png(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  Source source{file};
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, on_error, on_warning);
  struct Free {
    png_structp* png;
    png_infop info = nullptr;
    ~Free() { png_destroy_read_struct(png, info != nullptr ? &info : nullptr, nullptr); }
  } owned{&png};
  require(png != nullptr, "{}: the version of libpng differs from its headers", name);
  owned.info = png_create_info_struct(png);
  require(owned.info != nullptr, "{}: out of memory for a PNG file", name);
  png_set_read_fn(png, &source, read_bytes);
  Pixels pixels;
  const bool ok = decode(png, owned.info, pixels);
  require(ok, "{}: cannot decode this PNG file: {}", name, source.message);
  check_image_size(pixels.height, pixels.width, name);
  if (pixels.channels == channels) return {pixels.height, pixels.width, channels, std::move(pixels.values)};
  const auto count = static_cast<size_t>(pixels.height * pixels.width);
  Image image{pixels.height, pixels.width, channels,
              std::vector<uint8_t>(count * static_cast<size_t>(channels))};
  for (size_t i = 0; i < count; ++i) {
    if (channels == 1) {
      const uint8_t* from = pixels.values.data() + 3 * i;
      image.pixels[i] = luma(from[0], from[1], from[2]);
    } else {
      std::fill_n(image.pixels.data() + 3 * i, 3, pixels.values[i]);
    }
  }
  return image;
}

}  // namespace tutti
