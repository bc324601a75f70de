#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace tutti {

/// Parses JSON whose size is bounded but whose content is untrusted. Throws Error naming `name` on invalid
/// JSON or UTF-8, a duplicate key, a zero byte, or nesting deeper than `depth`.
nlohmann::json parse_strict_json(std::string_view text, const std::string& name, int depth = 16);

/// Whether a text is a plain file name: letters, digits, `.`, `_` and `-`, not starting with a dot. Such a
/// name from an untrusted file cannot refer to another directory.
bool is_plain_file_name(std::string_view name);

}  // namespace tutti
