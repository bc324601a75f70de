// Decodes image files for image_oracle.py: for each, an int32 0 and a message's length and text, or 1 and
// height, width, channels and pixels.
#include <tutti/core/data/image/image.h>
#include <tutti/core/error.h>

#include <cstdio>
#include <string>

using namespace tutti;

namespace {

void put(int64_t value) {
  const auto narrow = static_cast<int32_t>(value);
  std::fwrite(&narrow, sizeof narrow, 1, stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: oracle_image_codec CHANNELS FILE...\n");
    return 2;
  }
  const int64_t channels = std::stoll(argv[1]);
  for (int i = 2; i < argc; ++i) {
    try {
      const Image image = read_image(argv[i], channels);
      put(1), put(image.height), put(image.width), put(image.channels);
      std::fwrite(image.pixels.data(), 1, image.pixels.size(), stdout);
    } catch (const Error& error) {
      const std::string message = error.what();
      put(0), put(static_cast<int64_t>(message.size()));
      std::fwrite(message.data(), 1, message.size(), stdout);
    }
  }
}
