#include <tutti/core/data/unicode.h>

#include <tutti/core/error.h>

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
  fail("the text holds U+{:04X}: this build has no utf8proc and takes ASCII only",
       static_cast<uint32_t>(code));
#endif
}

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

CharClass char_class(char32_t code) {
  if (code > 0x10ffff) return CharClass::kOther;
  // White_Space is a fixed list (PropList.txt), not a category: it holds controls and leaves out U+200B.
  if ((code >= 0x09 && code <= 0x0d) || code == 0x20 || code == 0x85 || code == 0xa0 || code == 0x1680 ||
      (code >= 0x2000 && code <= 0x200a) || code == 0x2028 || code == 0x2029 || code == 0x202f ||
      code == 0x205f || code == 0x3000) {
    return CharClass::kSpace;
  }
  if (code >= 0x80) return category_class(code);
  if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z')) return CharClass::kLetter;
  return code >= '0' && code <= '9' ? CharClass::kNumber : CharClass::kOther;
}

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
