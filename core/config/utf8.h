#pragma once

#include <cstddef>
#include <string_view>

namespace tutti {

/// Whether the bytes are well-formed UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF.
/// Source: The Unicode Standard, table 3-7.
bool is_utf8(std::string_view bytes);

/// Position of the first ill-formed character; bytes.size() if there is none.
size_t first_not_utf8(std::string_view bytes);

}  // namespace tutti
