#include "core/data/tokenizer/charsmap.h"
#include "core/config/utf8.h"
#include "core/data/unicode.h"

#include <cstring>

namespace tutti {
namespace {

std::string from_base64(const JsonEntry& entry) {
  const std::string text = entry.text();
  std::string bytes;
  uint32_t bits = 0;
  int have = 0;
  for (size_t i = 0; i < text.size() && text[i] != '='; ++i) {
    static constexpr std::string_view kDigits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const size_t digit = kDigits.find(text[i]);
    entry.check(digit != std::string_view::npos, "byte {} is not base64", i);
    bits = bits << 6 | static_cast<uint32_t>(digit);
    have += 6;
    if (have >= 8) {
      have -= 8;
      bytes += static_cast<char>(static_cast<unsigned char>(bits >> have & 0xffU));
    }
  }
  return bytes;
}

bool has_leaf(uint32_t unit) {
  return (unit >> 8 & 1U) != 0;
}
uint32_t value(uint32_t unit) {
  return unit & 0x7fffffffU;
}
uint32_t label(uint32_t unit) {
  return unit & 0x800000ffU;
}
size_t offset(uint32_t unit) {
  return static_cast<size_t>(unit >> 10) << ((unit & 0x200U) >> 6);
}

}  // namespace

Charsmap::Charsmap(const JsonEntry& entry) {
  const std::string bytes = from_base64(entry);
  uint32_t trie_bytes = 0;
  entry.check(bytes.size() >= sizeof trie_bytes, "a map of {} bytes is too short", bytes.size());
  std::memcpy(&trie_bytes, bytes.data(), sizeof trie_bytes);
  entry.check(
      trie_bytes % sizeof(uint32_t) == 0 && trie_bytes > 0 && trie_bytes <= bytes.size() - sizeof trie_bytes,
      "declares {} bytes of trie, has {} bytes", trie_bytes, bytes.size());
  units_.resize(trie_bytes / sizeof(uint32_t));
  std::memcpy(units_.data(), bytes.data() + sizeof trie_bytes, trie_bytes);
  texts_ = bytes.substr(sizeof trie_bytes + trie_bytes);
  entry.check(is_utf8(texts_), "its texts are not valid UTF-8");
}

std::optional<std::string_view> Charsmap::find(std::string_view key) const {
  // The shortest prefix of the key in the map is used, as in `tokenizers`.
  size_t at = offset(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) break;
    at ^= byte;
    if (at >= units_.size() || label(units_[at]) != byte) return std::nullopt;
    const uint32_t unit = units_[at];
    at ^= offset(unit);
    if (!has_leaf(unit)) continue;
    if (at >= units_.size() || value(units_[at]) >= texts_.size()) return std::nullopt;
    const size_t begin = value(units_[at]);
    return std::string_view(texts_).substr(begin, std::min(texts_.find('\0', begin), texts_.size()) - begin);
  }
  return std::nullopt;
}

bool Charsmap::append_mapped(std::string_view key, std::string& out) const {
  const std::optional<std::string_view> mapped = find(key);
  if (mapped) out += *mapped;
  return mapped.has_value();
}

void Charsmap::append(std::string_view text, std::string& out) const {
  for (size_t begin = 0; begin < text.size();) {
    const auto ascii = [&](size_t i) { return static_cast<signed char>(text[i]) >= 0 && text[i] != '\r'; };
    // Two consecutive ASCII characters are two grapheme clusters, except CR LF.
    const size_t end = ascii(begin) && (begin + 1 == text.size() || ascii(begin + 1))
                           ? begin + 1
                           : grapheme_end(text, begin);
    const std::string_view cluster = text.substr(begin, end - begin);
    begin = end;
    if (cluster.size() < 6 && append_mapped(cluster, out)) continue;
    for (size_t i = 0; i < cluster.size();) {
      const std::string_view one = cluster.substr(i, decode_utf8(cluster, i).bytes);
      if (!append_mapped(one, out)) out += one;
      i += one.size();
    }
  }
}

}  // namespace tutti
