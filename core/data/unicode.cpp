#include "core/data/unicode.h"
#include "core/data/tokenizer/peer_unicode.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <memory>

#if defined(TUTTI_WITH_UTF8PROC)
#  include <utf8proc.h>
#endif

namespace tutti {
namespace {

/// Of a code point beyond ASCII, by its general category.
CharClass category_class(char32_t code) {
#if defined(TUTTI_WITH_UTF8PROC)
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(code))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    default:
      return CharClass::kOther;
  }
#else
  fail("the text contains U+{:04X}: this build has no utf8proc and supports only ASCII",
       static_cast<uint32_t>(code));
#endif
}

#if defined(TUTTI_WITH_UTF8PROC)
utf8proc_category_t category(char32_t code) {
  return code > 0x10ffff ? UTF8PROC_CATEGORY_CN : utf8proc_category(static_cast<utf8proc_int32_t>(code));
}
#else
[[noreturn]] void no_tables() {
  fail("this build has no utf8proc, which is required for normalizers and word classes beyond ASCII");
}
#endif

}  // namespace

Utf8Char decode_utf8(std::string_view text, size_t begin) {
  const auto byte = [&](size_t i) {
    return begin + i < text.size() ? static_cast<uint32_t>(static_cast<unsigned char>(text[begin + i])) : 0U;
  };
  const auto continues = [&](size_t i) { return (byte(i) & 0xc0U) == 0x80U; };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xc2 || lead > 0xf4 || !continues(1)) return {};
  if (lead < 0xe0) return {((lead & 0x1fU) << 6) | (byte(1) & 0x3fU), 2};
  if (!continues(2)) return {};
  if (lead < 0xf0) {
    const uint32_t code = ((lead & 0x0fU) << 12) | ((byte(1) & 0x3fU) << 6) | (byte(2) & 0x3fU);
    const bool surrogate = code >= 0xd800 && code <= 0xdfff;
    return code >= 0x800 && !surrogate ? Utf8Char{code, 3} : Utf8Char{};
  }
  if (!continues(3)) return {};
  const uint32_t code =
      ((lead & 0x07U) << 18) | ((byte(1) & 0x3fU) << 12) | ((byte(2) & 0x3fU) << 6) | (byte(3) & 0x3fU);
  return code >= 0x10000 && code <= 0x10ffff ? Utf8Char{code, 4} : Utf8Char{};
}

size_t character_before(std::string_view text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && end - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xc0U) == 0x80U) --begin;
  return begin + decode_utf8(text, begin).bytes == end ? begin : end - 1;
}

CharClass char_class(char32_t code) {
  if (code > 0x10ffff) return CharClass::kOther;
  // White_Space is a fixed list (PropList.txt), not a category: it includes controls, but not U+200B.
  if ((code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
      (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
      code == 0x205f || code == 0x3000) {
    return CharClass::kSpace;
  }
  if (code >= 0x80) return category_class(code);
  if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z')) return CharClass::kLetter;
  return code >= '0' && code <= '9' ? CharClass::kNumber : CharClass::kOther;
}

#if defined(TUTTI_WITH_UTF8PROC)

bool is_word(char32_t code) {
  if (code < 0x80) return std::isalnum(static_cast<int>(code)) != 0 || code == '_';
  switch (category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:  // Join_Control, and the symbols of Other_Alphabetic
      return code == 0x200c || code == 0x200d || (code >= 0x24b6 && code <= 0x24e9) ||
             (code >= 0x1f130 && code <= 0x1f149) || (code >= 0x1f150 && code <= 0x1f169) ||
             (code >= 0x1f170 && code <= 0x1f189);
  }
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) return std::ispunct(static_cast<int>(code)) != 0;
  const utf8proc_category_t kind = category(code);
  return (kind >= UTF8PROC_CATEGORY_PC && kind <= UTF8PROC_CATEGORY_PO) != peer_differs_in_punctuation(code);
}

bool is_mark(char32_t code) {
  const utf8proc_category_t kind = category(code);
  return (kind >= UTF8PROC_CATEGORY_MN && kind <= UTF8PROC_CATEGORY_ME) != peer_differs_in_marks(code);
}

bool is_nonspacing_mark(char32_t code) {
  return (category(code) == UTF8PROC_CATEGORY_MN) != peer_differs_in_nonspacing(code);
}

bool is_control(char32_t code) {
  const utf8proc_category_t kind = category(code);
  return (kind >= UTF8PROC_CATEGORY_CC) != peer_differs_in_format(code);
}

void append_lower(std::string& text, char32_t code) {
  if (code == 0x130) {
    text += "i\u0307";
  } else {
    append_utf8(text, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code))));
  }
}

namespace {

void append_normalized(std::string& out, std::string_view text, utf8proc_option_t options) {
  if (text.empty()) return;
  utf8proc_uint8_t* form = nullptr;
  const utf8proc_ssize_t length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                               static_cast<utf8proc_ssize_t>(text.size()), &form, options);
  require(length >= 0, "a text of {} bytes cannot be normalized: {}", text.size(), utf8proc_errmsg(length));
  const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(form, &std::free);
  out.append(reinterpret_cast<const char*>(form), static_cast<size_t>(length));
}

}  // namespace

std::string normalized(std::string_view text, NormalForm form) {
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                                     (compatible ? UTF8PROC_COMPAT : 0));
  // A character that is not in the peer's tables is kept, and nothing is reordered or composed across it, nor
  // across an ASCII character that another one follows: long runs are copied.
  std::string out;
  out.reserve(text.size());
  size_t done = 0;
  for (size_t i = 0; i < text.size();) {
    const auto ascii = [&](size_t k) { return static_cast<signed char>(text[k]) >= 0; };
    if (ascii(i) && (i + 1 == text.size() || ascii(i + 1))) {
      append_normalized(out, text.substr(done, i - done), options);
      out += text[i];
      done = ++i;
      continue;
    }
    const Utf8Char c = decode_utf8(text, i);
    if (peer_differs_in_form(c.code)) {
      append_normalized(out, text.substr(done, i - done), options);
      out += text.substr(i, c.bytes);
      done = i + c.bytes;
    }
    i += c.bytes;
  }
  append_normalized(out, text.substr(done), options);
  return out;
}

size_t grapheme_end(std::string_view text, size_t begin) {
  Utf8Char last = decode_utf8(text, begin);
  utf8proc_int32_t state = 0;
  size_t end = begin + last.bytes;
  while (end < text.size()) {
    const Utf8Char next = decode_utf8(text, end);
    if (utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last.code),
                                         static_cast<utf8proc_int32_t>(next.code), &state)) {
      break;
    }
    last = next;
    end += next.bytes;
  }
  return end;
}

#else

bool is_word(char32_t code) {
  if (code >= 0x80) no_tables();
  return std::isalnum(static_cast<int>(code)) != 0 || code == '_';
}
bool is_punctuation(char32_t code) {
  if (code >= 0x80) no_tables();
  return std::ispunct(static_cast<int>(code)) != 0;
}
bool is_mark(char32_t code) {
  if (code >= 0x80) no_tables();
  return false;
}
bool is_nonspacing_mark(char32_t code) {
  return is_mark(code);
}
bool is_control(char32_t code) {
  if (code >= 0x80) no_tables();
  return std::iscntrl(static_cast<int>(code)) != 0;
}
void append_lower(std::string& text, char32_t code) {
  if (code >= 0x80) no_tables();
  text += static_cast<char>(std::tolower(static_cast<int>(code)));
}
std::string normalized(std::string_view text, NormalForm) {
  for (const char c : text) {
    if (static_cast<signed char>(c) < 0) no_tables();
  }
  return std::string(text);
}
size_t grapheme_end(std::string_view, size_t) {
  no_tables();
}

#endif

void append_utf8(std::string& text, char32_t code) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0U | (code >> 6));
    put(0x80U | (code & 0x3fU));
  } else if (code < 0x10000) {
    put(0xe0U | (code >> 12));
    put(0x80U | ((code >> 6) & 0x3fU));
    put(0x80U | (code & 0x3fU));
  } else {
    put(0xf0U | (code >> 18));
    put(0x80U | ((code >> 12) & 0x3fU));
    put(0x80U | ((code >> 6) & 0x3fU));
    put(0x80U | (code & 0x3fU));
  }
}

}  // namespace tutti
