#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tutti {

/// The character classes of GPT-2's split rule: \p{L}, \p{N}, \s, and all others.
enum class CharClass : uint8_t { kOther, kLetter, kNumber, kSpace };

/// One character of a text that may not be UTF-8.
struct Utf8Char {
  /// The code of a byte that begins no well-formed character; its class is kOther, like that of U+FFFD.
  static constexpr char32_t kInvalid = 0xffffffffU;
  char32_t code = kInvalid;
  uint32_t bytes = 1;
};

/// The character at `text[begin]`, begin < text.size(): shortest forms only, no surrogates, nothing above
/// U+10FFFF.
Utf8Char decode_utf8(std::string_view text, size_t begin);

/// Where the character before `end` > 0 begins.
size_t character_before(std::string_view text, size_t end);

/// Class of a code point: its general category, and White_Space of the Unicode character database for kSpace.
CharClass char_class(char32_t code);

/// Nd, Nl, No.
inline bool is_numeric(char32_t code) {
  return char_class(code) == CharClass::kNumber;
}
/// White_Space.
inline bool is_space(char32_t code) {
  return char_class(code) == CharClass::kSpace;
}
/// \w of regular expressions: Alphabetic, M, Nd, Pc, Join_Control. Source: Unicode Technical Standard 18,
/// annex C.
bool is_word(char32_t code);
/// P*, and all of ASCII that is neither letter, digit, space nor control. This and the next three follow the
/// older tables of Hugging Face `tokenizers`.
bool is_punctuation(char32_t code);
/// Mn, Mc, Me.
bool is_mark(char32_t code);
/// Mn.
bool is_nonspacing_mark(char32_t code);
/// Cc, Cf, Cs, Co.
bool is_control(char32_t code);
/// U+0130 becomes two characters, so this appends.
void append_lower(std::string& text, char32_t code);

/// Normalization forms. Source: Unicode Standard Annex 15.
enum class NormalForm : uint8_t { kNfc, kNfd, kNfkc, kNfkd };
/// A UTF-8 text in that form; characters that are newer than the tables of `tokenizers` are kept.
std::string normalized(std::string_view text, NormalForm form);

/// Where the extended grapheme cluster that begins at `begin` < text.size() ends. Source: Unicode Standard
/// Annex 29.
size_t grapheme_end(std::string_view text, size_t begin);

/// Appends a code point (at most U+10FFFF, no surrogate) as UTF-8.
void append_utf8(std::string& text, char32_t code);

}  // namespace tutti
