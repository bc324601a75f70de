#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>
#include "core/config/utf8.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace tutti {
namespace {

constexpr size_t kLongestHostName = 253;  // RFC 1035

}  // namespace

// Not isalnum(), which depends on the locale.
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_made_of(std::string_view text, std::string_view others) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return is_letter(c) || is_digit(c) || others.find(c) != std::string_view::npos;
  });
}

bool is_host_name(std::string_view text) {
  return !text.empty() && text.size() <= kLongestHostName && text.front() != '-' && text.front() != '.' &&
         is_made_of(text, "._-");
}

bool is_plain_word(std::string_view text) {
  return !text.empty() && text.front() != '-' && is_made_of(text, "._+@/:=,-");
}

bool is_variable_name(std::string_view text) {
  return !text.empty() && !is_digit(text.front()) && is_made_of(text, "_");
}

bool has_control_character(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7F;
  });
}

std::string_view without_line_end(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  return text;
}

std::string shell_word(std::string_view text) {
  require(text.find('\0') == std::string_view::npos, "a zero byte in '{}' cannot be passed to a program",
          text.substr(0, text.find('\0')));
  if (!text.empty() && text.front() != '~' && is_made_of(text, "._+@/:=,-%")) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') {
      quoted += R"('\'')";
    } else {
      quoted += c;
    }
  }
  quoted += '\'';
  return quoted;
}

std::string shell_line(std::span<const std::string> words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    line += shell_word(word);
  }
  return line;
}

std::string script_line(std::span<const std::string> words, std::string_view what) {
  for (const std::string& word : words) {
    require(!has_control_character(word),
            "{}: {} has a line break or another control character, which a scheduler could take for a "
            "directive; put it into a file and name the file",
            what, nlohmann::json(word).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  return shell_line(words);
}

std::string yaml_string(std::string_view text, std::string_view what) {
  require(is_utf8(text), "{}: is not UTF-8, which YAML requires", what);
  return nlohmann::json(std::string(text)).dump();
}

}  // namespace tutti
