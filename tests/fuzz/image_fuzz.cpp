#include <tutti/core/data/image/image.h>

#include "tests/fuzz/fuzz.h"

using namespace tutti;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const int64_t channels : {1, 3}) {
    Image image;
    const auto file = std::as_bytes(std::span(data, size));
    if (!fuzz::accepted([&] { image = decode_image(file, channels, "fuzz"); })) continue;
    fuzz::check(image.channels == channels, "as many channels as asked for");
    fuzz::check(image.height >= 1 && image.width >= 1 && image.height * image.width <= kMaxImagePixels,
                "sizes within their bounds");
    fuzz::check(static_cast<int64_t>(image.pixels.size()) == image.height * image.width * channels,
                "as many pixels as it tells");
  }
  return 0;
}
