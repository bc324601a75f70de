#pragma once

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace tutti {

/// Parses JSON of small trusted size but untrusted content: refuses, with Error naming `name`, what is not
/// JSON, not UTF-8, holds a key twice in an object, a zero byte, or is nested deeper than `depth`.
nlohmann::json parse_strict_json(std::string_view text, const std::string& name, int depth = 16);

/// A file's name inside a directory: letters, digits, `.`, `_` and `-`, not starting with a dot. Names out of
/// foreign files never lead elsewhere.
bool is_plain_file_name(std::string_view name);

}  // namespace tutti
