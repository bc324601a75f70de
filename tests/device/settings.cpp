#include "tests/device/settings.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace software_cuda {
namespace {

uint64_t number(const char* name, uint64_t otherwise, uint64_t most) {
  const char* const text = std::getenv(name);
  if (text == nullptr || *text == '\0') return otherwise;
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text, text + std::strlen(text), value);
  if (error != std::errc() || *end != '\0' || value > most) {
    (void)std::fprintf(stderr, "software device: %s=%s: expected a number up to %llu\n", name, text,
                       static_cast<unsigned long long>(most));
    std::exit(2);
  }
  return value;
}

std::string text(const char* name) {
  const char* const value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

const Settings& settings() {
  static const Settings all{
      .seed = number("TUTTI_DEVICE_SEED", 1, UINT64_MAX),
      .devices = static_cast<int>(number("TUTTI_DEVICE_COUNT", 0, kMostDevices)),
      .memory = number("TUTTI_DEVICE_MIB", 4096, 1 << 20) << 20,
      .guards = number("TUTTI_DEVICE_GUARD", 1, 1) == 1,
      .fault = text("TUTTI_DEVICE_FAULT"),
      .blocks = number("CUDA_LAUNCH_BLOCKING", 0, 1) == 1,
  };
  return all;
}

}  // namespace software_cuda
