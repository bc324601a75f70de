#include <tutti/core/error.h>
#include "core/data/image/formats.h"

#include <cstdio>  // jpeglib.h needs FILE

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>

namespace tutti {
namespace {

/// libjpeg reports errors by a callback that must not return: it jumps (longjmp) to the start of decoding.
struct JpegErrors {
  jpeg_error_mgr base;  // first: libjpeg passes its address
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->back, 1);
}

/// Most warnings concern missing or damaged data, where libjpeg would continue with grey pixels.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  const bool harmless = code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM || code == JWRN_JFIF_MAJOR;
  if (!harmless) on_error(info);
}

/// Converts CMYK to RGB as PIL does, which assumes that all such files are Adobe's, with inverted values.
/// libjpeg has already converted YCCK to CMYK.
void from_inks(const uint8_t* inks, int64_t width, int64_t channels, uint8_t* out) {
  for (int64_t x = 0; x < width; ++x, inks += 4) {
    const uint32_t light = inks[3];  // 255 - black
    const auto colour = [&](uint32_t inverted_ink) {
      const uint32_t product = (255 - inverted_ink) * light + 128;
      return light - ((product + (product >> 8)) >> 8);
    };
    const uint32_t red = colour(inks[0]), green = colour(inks[1]), blue = colour(inks[2]);
    if (channels == 1) {
      *out++ = luma(red, green, blue);
    } else {
      *out++ = static_cast<uint8_t>(red);
      *out++ = static_cast<uint8_t>(green);
      *out++ = static_cast<uint8_t>(blue);
    }
  }
}

struct Decoded {
  bool ok = false;
  int64_t height = 0, width = 0;
};

/// The code between setjmp and longjmp must not create objects with destructors; `image` and `inks` belong to
/// the caller.
Decoded decode(jpeg_decompress_struct& info, JpegErrors& errors, std::span<const std::byte> file,
               Image& image, std::vector<uint8_t>& inks) {
  if (setjmp(errors.back) != 0) {
    jpeg_destroy_decompress(&info);
    return {};
  }
  jpeg_create_decompress(&info);
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_read_header(&info, TRUE);
  const Decoded size{true, info.image_height, info.image_width};
  if (size.height * size.width > kMaxImagePixels) {
    jpeg_destroy_decompress(&info);
    return size;
  }
  const bool has_inks = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  info.out_color_space = has_inks ? JCS_CMYK : image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  // The accurate integer transform: the same pixels on every machine.
  info.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&info);
  image.height = size.height;
  image.width = size.width;
  image.pixels.resize(static_cast<size_t>(size.height * size.width * image.channels));
  if (has_inks) inks.resize(static_cast<size_t>(size.width * 4));
  while (info.output_scanline < info.output_height) {
    uint8_t* const out = image.pixels.data() + static_cast<size_t>(info.output_scanline) *
                                                   static_cast<size_t>(size.width * image.channels);
    JSAMPROW row = has_inks ? inks.data() : out;
    jpeg_read_scanlines(&info, &row, 1);
    if (has_inks) from_inks(inks.data(), size.width, image.channels, out);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return size;
}

}  // namespace

Image decode_jpeg(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  jpeg_decompress_struct info{};
  JpegErrors errors{};
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = on_error;
  errors.base.emit_message = on_message;
  Image image{0, 0, channels, {}};
  std::vector<uint8_t> inks;
  const Decoded size = decode(info, errors, file, image, inks);
  require(size.ok, "{}: cannot decode this JPEG file: {}", name, errors.message);
  check_image_size(size.height, size.width, name);
  return image;
}

}  // namespace tutti
