#include "core/data/split.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace tutti {
namespace {

constexpr std::array<CharClass, 128> kAsciiClass = [] {
  std::array<CharClass, 128> table{};
  for (size_t c = 0; c < table.size(); ++c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool number = c >= '0' && c <= '9';
    const bool space = c == ' ' || (c >= 9 && c <= 13);
    table[c] = letter   ? CharClass::kLetter
               : number ? CharClass::kNumber
               : space  ? CharClass::kSpace
                        : CharClass::kOther;
  }
  return table;
}();

struct ClassAt {
  CharClass kind;
  uint32_t bytes;
};

inline ClassAt class_at(std::string_view text, size_t i) {
  const auto byte = static_cast<unsigned char>(text[i]);
  if (byte < 0x80) return {kAsciiClass[byte], 1};
  const Utf8Char c = decode_utf8(text, i);
  return {char_class(c.code), c.bytes};
}

inline size_t run_end(std::string_view text, size_t i, CharClass kind) {
  while (i < text.size()) {
    const ClassAt at = class_at(text, i);
    if (at.kind != kind) break;
    i += at.bytes;
  }
  return i;
}

/// Length of 's, 't, 're, 've, 'm, 'll or 'd at `i`, including the apostrophe; else 0.
size_t contraction(std::string_view text, size_t i) {
  if (i + 1 >= text.size()) return 0;
  const char a = text[i + 1];
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
  if (i + 2 >= text.size()) return 0;
  const char b = text[i + 2];
  return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

}  // namespace

size_t word_end(std::string_view text, size_t begin) {
  const char first = text[begin];
  if (first == '\'') {
    if (const size_t length = contraction(text, begin); length > 0) return begin + length;
  }
  if (first == ' ' && begin + 1 < text.size()) {
    const ClassAt next = class_at(text, begin + 1);
    if (next.kind != CharClass::kSpace) return run_end(text, begin + 1 + next.bytes, next.kind);
  }
  const ClassAt at = class_at(text, begin);
  if (at.kind != CharClass::kSpace) return run_end(text, begin + at.bytes, at.kind);

  // White space: all of it at the end of the text, else all but the last character, which joins the next word
  // or is a word by itself.
  size_t last = begin;
  size_t end = begin + at.bytes;
  while (end < text.size()) {
    const ClassAt next = class_at(text, end);
    if (next.kind != CharClass::kSpace) break;
    last = end;
    end += next.bytes;
  }
  return end == text.size() || last == begin ? end : last;
}

size_t cut_point(std::string_view text, size_t begin) {
  for (size_t i = begin; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (i == 0 || byte >= 0x80 || kAsciiClass[byte] != CharClass::kSpace) continue;
    // The character before: an ASCII one is at hand; else step back over at most three continuation bytes.
    size_t start = i - 1;
    while (start > 0 && i - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0U) == 0x80U) --start;
    const ClassAt before = class_at(text, start);
    const bool whole = start + before.bytes == i;  // else the bytes before are not valid UTF-8: kOther
    if (!whole || before.kind != CharClass::kSpace) return i;
  }
  return text.size();
}

size_t cut_before_space(std::string_view text, size_t begin) {
  for (size_t i = std::max<size_t>(begin, 1); i < text.size(); ++i) {
    if (text[i] != ' ') continue;
    size_t start = i - 1;
    while (start > 0 && i - start < 4 && (static_cast<unsigned char>(text[start]) & 0xc0U) == 0x80U) --start;
    const ClassAt before = class_at(text, start);
    if (start + before.bytes == i &&
        (before.kind == CharClass::kLetter || before.kind == CharClass::kNumber)) {
      return i;
    }
  }
  return text.size();
}

}  // namespace tutti
