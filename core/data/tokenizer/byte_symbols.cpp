#include <tutti/core/data/tokenizer.h>
#include "core/data/unicode.h"

#include <array>

namespace tutti {
namespace {

constexpr bool stands_for_itself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

struct SymbolTable {
  std::array<char32_t, 256> symbol{};
  std::array<int16_t, 512> byte{};
};

constexpr SymbolTable kTable = [] {
  SymbolTable table;
  table.byte.fill(-1);
  char32_t next = 256;
  for (uint32_t b = 0; b < 256; ++b) {
    table.symbol[b] = stands_for_itself(b) ? b : next++;
    table.byte[table.symbol[b]] = static_cast<int16_t>(b);
  }
  return table;
}();

}  // namespace

char32_t byte_symbol(uint8_t byte) {
  return kTable.symbol[byte];
}

std::string symbols_of_bytes(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) append_utf8(text, kTable.symbol[static_cast<unsigned char>(c)]);
  return text;
}

std::optional<std::string> bytes_of_symbols(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const Utf8Char c = decode_utf8(text, i);
    if (c.code >= kTable.byte.size() || kTable.byte[c.code] < 0) return std::nullopt;
    bytes += static_cast<char>(static_cast<unsigned char>(kTable.byte[c.code]));
    i += c.bytes;
  }
  return bytes;
}

}  // namespace tutti
