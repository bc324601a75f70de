#include <tutti/core/error.h>
#include "core/data/image/formats.h"

#ifdef TUTTI_WITH_WEBP
#  include <webp/decode.h>
#endif

#include <algorithm>

namespace tutti {

#ifdef TUTTI_WITH_WEBP

namespace {

const char* text_of(VP8StatusCode status) {
  switch (status) {
    case VP8_STATUS_OUT_OF_MEMORY:
      return "out of memory";
    case VP8_STATUS_UNSUPPORTED_FEATURE:
      return "an unsupported feature";
    case VP8_STATUS_NOT_ENOUGH_DATA:
      return "unexpected end of data";
    default:
      return "damaged data";
  }
}

}  // namespace

Image decode_webp(std::span<const std::byte> file, int64_t channels, const std::string& name) {
  const auto* data = reinterpret_cast<const uint8_t*>(file.data());
  WebPDecoderConfig config;
  require(WebPInitDecoderConfig(&config) != 0, "{}: the version of libwebp differs from its headers", name);
  VP8StatusCode status = WebPGetFeatures(data, file.size(), &config.input);
  require(status == VP8_STATUS_OK, "{}: cannot decode this WebP file: {}", name, text_of(status));
  require(config.input.has_animation == 0,
          "{}: an animated WebP file; expected one frame: save a single frame", name);
  const int64_t height = config.input.height;
  const int64_t width = config.input.width;
  check_image_size(height, width, name);
  std::vector<uint8_t> rgb(static_cast<size_t>(height * width * 3));
  config.output.colorspace = MODE_RGB;  // transparent pixels keep their colour
  config.output.is_external_memory = 1;
  config.output.u.RGBA.rgba = rgb.data();
  config.output.u.RGBA.stride = static_cast<int>(width * 3);
  config.output.u.RGBA.size = rgb.size();
  status = WebPDecode(data, file.size(), &config);
  WebPFreeDecBuffer(&config.output);
  require(status == VP8_STATUS_OK, "{}: cannot decode this WebP file: {}", name, text_of(status));
  if (channels == 3) return {height, width, 3, std::move(rgb)};
  Image grey{height, width, 1, std::vector<uint8_t>(static_cast<size_t>(height * width))};
  for (size_t i = 0; i < grey.pixels.size(); ++i) {
    grey.pixels[i] = luma(rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]);
  }
  return grey;
}

#else

Image decode_webp(std::span<const std::byte>, int64_t, const std::string& name) {
  fail("{}: a WebP file, but this build has no libwebp (install libwebp-dev and build again)", name);
}

#endif

}  // namespace tutti
