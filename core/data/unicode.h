#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tutti {

/// What GPT-2's split rule tells apart: \p{L}, \p{N}, \s, and the rest.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

/// One character of a text that may not be UTF-8.
struct Utf8Char {
  /// Stands for a byte that begins no well-formed character; its class is kOther, like that of U+FFFD.
  static constexpr char32_t kInvalid = 0xffffffffU;
  char32_t code = kInvalid;
  uint32_t bytes = 1;
};

/// The character at `text[begin]`, begin < text.size(): shortest forms only, no surrogates, nothing above
/// U+10FFFF.
Utf8Char decode_utf8(std::string_view text, size_t begin);

/// Class of a code point: its general category, and White_Space of the Unicode character database for kSpace.
CharClass char_class(char32_t code);

/// Appends a code point (at most U+10FFFF, no surrogate) as UTF-8.
void append_utf8(std::string& text, char32_t code);

}  // namespace tutti
