#include <tutti/core/data/image_formats.h>
#include <tutti/core/error.h>

#include <cstdio>  // jpeglib.h needs FILE

#include <jpeglib.h>

#include <csetjmp>

namespace tutti {
namespace {

/// libjpeg reports errors by a callback that must not return: it jumps back to where decoding began.
struct JpegErrors {
  jpeg_error_mgr base;  // first: libjpeg hands back its address
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void on_error(j_common_ptr info) {
  auto* errors = reinterpret_cast<JpegErrors*>(info->err);
  info->err->format_message(info, errors->message);
  std::longjmp(errors->back, 1);
}

/// Warnings are about data that is missing or damaged; libjpeg would fill in grey and go on.
void on_message(j_common_ptr info, int level) {
  if (level < 0) on_error(info);
}

struct Decoded {
  bool ok = false;
  int64_t height = 0, width = 0;
};

/// Everything between setjmp and longjmp: no object with a destructor lives here, `image` belongs to the
/// caller.
Decoded decode(jpeg_decompress_struct& info, JpegErrors& errors, std::span<const std::byte> file,
               Image& image) {
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
  info.out_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  // The accurate integer transform: the same pixels on every machine.
  info.dct_method = JDCT_ISLOW;
  jpeg_start_decompress(&info);
  image.height = size.height;
  image.width = size.width;
  image.pixels.resize(static_cast<size_t>(size.height * size.width * image.channels));
  while (info.output_scanline < info.output_height) {
    JSAMPROW row = image.pixels.data() + static_cast<size_t>(info.output_scanline) *
                                             static_cast<size_t>(size.width * image.channels);
    jpeg_read_scanlines(&info, &row, 1);
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
  const Decoded size = decode(info, errors, file, image);
  require(size.ok, "{}: cannot decode this JPEG file: {}", name, errors.message);
  require(image.height > 0, "{}: an image of {} x {} pixels; at most {} are possible", name, size.height,
          size.width, kMaxImagePixels);
  return image;
}

}  // namespace tutti
