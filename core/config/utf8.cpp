#include "core/config/utf8.h"

#include <cstdint>

namespace tutti {

bool is_utf8(std::string_view bytes) {
  return first_not_utf8(bytes) == bytes.size();
}

size_t first_not_utf8(std::string_view bytes) {
  const auto byte = [&](size_t i) {
    return static_cast<uint32_t>(i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
  };
  for (size_t i = 0; i < bytes.size();) {
    const uint32_t lead = byte(i);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4) return i;
    // The range of the first continuation byte excludes overlong forms, surrogates and code points above
    // U+10FFFF.
    const uint32_t low = lead == 0xe0 ? 0xa0U : lead == 0xf0 ? 0x90U : 0x80U;
    const uint32_t high = lead == 0xed ? 0x9fU : lead == 0xf4 ? 0x8fU : 0xbfU;
    if (byte(i + 1) < low || byte(i + 1) > high) return i;
    for (size_t k = 2; k < length; ++k) {
      if ((byte(i + k) & 0xc0U) != 0x80U) return i;
    }
    i += length;
  }
  return bytes.size();
}

}  // namespace tutti
