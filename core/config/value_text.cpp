#include "core/config/value_text.h"
#include <tutti/core/error.h>
#include "core/config/nearest.h"
#include "core/config/utf8.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace tutti {
namespace {

using Kind = ConfigNode::Kind;

template <class T>
inline constexpr bool kIsList = false;
template <class T>
inline constexpr bool kIsList<std::vector<T>> = true;
template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

template <class T>
std::string_view type_name() {
  if constexpr (std::is_same_v<T, int64_t>)
    return "integer";
  else if constexpr (std::is_same_v<T, double>)
    return "number";
  else if constexpr (std::is_same_v<T, bool>)
    return "true or false";
  else if constexpr (std::is_same_v<T, DType>)
    return "dtype";
  else if constexpr (std::is_same_v<T, std::string>)
    return "text";
  else if constexpr (std::is_same_v<T, std::vector<int64_t>>)
    return "list of integers";
  else if constexpr (std::is_same_v<T, std::vector<double>>)
    return "list of numbers";
  else if constexpr (std::is_same_v<T, std::vector<std::string>>)
    return "list of texts";
  else
    return type_name<typename T::value_type>();
}

/// Parses a complete text as a number; `+5` is allowed, as in YAML.
template <class T>
bool parse_number(std::string_view text, T& value) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  return !text.empty() && error == std::errc() && stop == end;
}

template <class T>
bool convert(const ConfigNode& node, T& value) {
  if constexpr (std::is_same_v<T, std::string>) {
    // `--set name=` sets an empty text; `name:` in a file is more probably a missing value.
    if (node.kind == Kind::kScalar) {
      value = node.text;
      return true;
    }
    value = node.typed.value_or("");
    return node.typed.has_value();
  } else if (node.kind != Kind::kScalar) {
    return false;
  } else if constexpr (std::is_same_v<T, bool>) {
    constexpr std::array kTrue{"true", "True", "TRUE"};
    constexpr std::array kFalse{"false", "False", "FALSE"};
    value = std::find(kTrue.begin(), kTrue.end(), node.text) != kTrue.end();
    return !node.quoted && (value || std::find(kFalse.begin(), kFalse.end(), node.text) != kFalse.end());
  } else if constexpr (std::is_same_v<T, DType>) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat64,
                              DType::kInt32, DType::kInt64, DType::kUInt8}) {
      if (node.text == name(dtype)) {
        value = dtype;
        return true;
      }
    }
    return false;
  } else {
    if (node.quoted || !parse_number(node.text, value)) return false;
    if constexpr (std::is_same_v<T, double>) return std::isfinite(value);
    return true;
  }
}

template <class T>
bool allowed(const T& value, const Field& field) {
  if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, double>)
    return field.constraint.allows(static_cast<double>(value));
  else if constexpr (std::is_same_v<T, std::string>)
    return !(field.constraint.not_empty && value.empty()) &&
           (field.choices.empty() ||
            std::find(field.choices.begin(), field.choices.end(), value) != field.choices.end());
  else
    return true;
}

/// "an integer, at least 1", "one of layer, rms".
template <class T>
std::string expected_text(const Field& field) {
  if (!field.choices.empty()) return fmt::format("one of {}", fmt::join(field.choices, ", "));
  if constexpr (std::is_same_v<T, DType>) return "one of fp32, bf16, fp16, fp64, int32, int64, uint8";
  const std::string_view type = type_name<T>();
  const std::string_view article = type == "integer"                           ? "an "
                                   : type == "text" || type == "true or false" ? ""
                                                                               : "a ";
  const std::string range = field.constraint.text();
  return fmt::format("{}{}{}{}", article, type, range.empty() ? "" : ", ", range);
}

template <class T>
std::string wrong(const ConfigNode& node, const Field& field) {
  std::string hint;
  if (node.kind == Kind::kScalar) {
    hint = did_you_mean(node.text, field.choices);
    if constexpr (std::is_same_v<T, int64_t>) {
      double number = 0;
      int64_t integer = 0;
      if (!node.quoted && !parse_number(node.text, integer) && parse_number(node.text, number) &&
          std::abs(number) < 1e15 && number == std::floor(number)) {
        hint = fmt::format("; write {}", static_cast<int64_t>(number));
      }
    }
  }
  return fmt::format("expected {}, got {}{}", expected_text<T>(field), value_text(node), hint);
}

template <class T>
std::string assign_to(const ConfigNode& node, const Field& field, T& target) {
  if constexpr (kIsOptional<T>) {
    if (node.kind == Kind::kNull) {
      target.reset();
      return "";
    }
    typename T::value_type value{};
    std::string problem = assign_to(node, field, value);
    if (problem.empty()) target = std::move(value);
    return problem;
  } else if constexpr (kIsList<T>) {
    if (node.kind != Kind::kList) return wrong<T>(node, field);
    const auto count = static_cast<int64_t>(node.items.size());
    if ((field.constraint.length >= 0 && count != field.constraint.length) ||
        (field.constraint.not_empty && count == 0)) {
      return fmt::format("expected {}, got {} values", expected_text<T>(field), count);
    }
    T values(node.items.size());
    for (size_t i = 0; i < values.size(); ++i) {
      using Element = typename T::value_type;
      if (!convert(node.items[i], values[i]) || !allowed(values[i], field)) {
        return fmt::format("element {}: {}", i + 1, wrong<Element>(node.items[i], field));
      }
    }
    target = std::move(values);
    return "";
  } else {
    T value{};
    if (!convert(node, value) || !allowed(value, field)) return wrong<T>(node, field);
    target = std::move(value);
    return "";
  }
}

/// The error in an existing value; empty if it is valid.
template <class T>
std::string check_typed(const T& value, const Field& field) {
  if constexpr (kIsOptional<T>) {
    return value ? check_typed(*value, field) : "";
  } else if constexpr (kIsList<T>) {
    const auto count = static_cast<int64_t>(value.size());
    if ((field.constraint.length >= 0 && count != field.constraint.length) ||
        (field.constraint.not_empty && count == 0)) {
      return fmt::format("expected {}, got {} values", expected_text<T>(field), count);
    }
    for (size_t i = 0; i < value.size(); ++i) {
      const std::string problem = check_typed(value[i], field);
      if (!problem.empty()) return fmt::format("element {}: {}", i + 1, problem);
    }
    return "";
  } else {
    bool finite = true;
    if constexpr (std::is_same_v<T, double>) finite = std::isfinite(value);
    if (finite && allowed(value, field)) return "";
    std::string came;
    std::string hint;
    if constexpr (std::is_same_v<T, std::string>) {
      came = fmt::format("'{}'", shortened(value));
      hint = did_you_mean(value, field.choices);
    } else if constexpr (std::is_same_v<T, DType>) {
      came = name(value);
    } else {
      came = fmt::format("{}", value);
    }
    return fmt::format("expected {}, got {}{}", expected_text<T>(field), came, hint);
  }
}

/// Whether all YAML readers read the unquoted word as text: letters, digits and a few other characters, but
/// not a word that some readers parse as a number, a boolean or null.
bool plain(std::string_view text) {
  if (text.empty() || !(std::isalpha(static_cast<unsigned char>(text.front())) || text.front() == '/'))
    return false;
  const bool plain_characters = std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == '/' || c == '+';
  });
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  constexpr std::array kWords{"null", "true", "false", "yes", "no", "on", "off", "y", "n", "inf", "nan"};
  return plain_characters && std::find(kWords.begin(), kWords.end(), lower) == kWords.end();
}

std::string quoted(std::string_view text, std::string_view path) {
  require(is_utf8(text), "{}: the text is not valid UTF-8 and cannot be written to a run file", path);
  if (plain(text)) return std::string(text);
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

template <class T>
std::string write(const T& value, std::string_view path) {
  if constexpr (kIsOptional<T>) {
    return value ? write(*value, path) : "null";
  } else if constexpr (kIsList<T>) {
    std::vector<std::string> texts;
    texts.reserve(value.size());
    for (const auto& element : value) texts.push_back(write(element, path));
    return fmt::format("[{}]", fmt::join(texts, ", "));
  } else if constexpr (std::is_same_v<T, std::string>) {
    return quoted(value, path);
  } else if constexpr (std::is_same_v<T, DType>) {
    return std::string(name(value));
  } else {
    if constexpr (std::is_same_v<T, double>) {
      require(std::isfinite(value), "{}: {} is not finite and cannot be written to a run file", path, value);
    }
    return fmt::format("{}", value);
  }
}

}  // namespace

std::string shortened(std::string_view text) {
  constexpr size_t kMost = 60;
  std::string result;
  for (const char c : text.substr(0, kMost)) {
    result += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  // Not in the middle of a UTF-8 character.
  if (text.size() > kMost) {
    while (!result.empty() && !is_utf8(result)) result.pop_back();
    result += "...";
  }
  return result;
}

std::string value_text(const ConfigNode& node) {
  switch (node.kind) {
    case Kind::kNull:
      return "nothing";
    case Kind::kScalar:
      return node.quoted ? fmt::format("the text '{}'", shortened(node.text))
                         : fmt::format("'{}'", shortened(node.text));
    case Kind::kList:
      return "a list";
    case Kind::kMap:
      return "a section";
  }
  return "";
}

std::string assign(const ConfigNode& node, const Field& field) {
  return std::visit([&](auto* target) { return assign_to(node, field, *target); }, field.target);
}

std::string expand_home(const FieldTarget& target) {
  std::string* const path = std::get<std::string*>(target);
  if (path->find('\0') != std::string::npos) return "expected a path without a zero byte";
  if (!path->starts_with('~')) return "";
  const size_t slash = std::min(path->find('/'), path->size());
  const std::string user = path->substr(1, slash - 1);
  std::string home;
  if (const char* own = std::getenv("HOME"); user.empty() && own != nullptr) home = own;
  if (home.empty()) {
    const passwd* const entry = user.empty() ? ::getpwuid(::getuid()) : ::getpwnam(user.c_str());
    if (entry != nullptr) home = entry->pw_dir;
  }
  if (home.empty()) {
    return fmt::format("{}: user '{}' does not exist; for a directory of that name write ./{}",
                       shortened(*path), user, shortened(*path));
  }
  path->replace(0, slash, home);
  return "";
}

std::string check_value(const Field& field) {
  return std::visit([&](const auto* value) { return check_typed(*value, field); }, field.target);
}

std::string_view type_text(const FieldTarget& target) {
  return std::visit([](auto* value) { return type_name<std::remove_pointer_t<decltype(value)>>(); }, target);
}

std::string yaml_text(const FieldTarget& target, std::string_view path) {
  return std::visit([&](auto* value) { return write(*value, path); }, target);
}

}  // namespace tutti
