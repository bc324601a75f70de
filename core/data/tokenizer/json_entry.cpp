#include "core/data/tokenizer/json_entry.h"
#include <tutti/core/data/tokenizer.h>
#include "core/data/unicode.h"

namespace tutti {

JsonEntry JsonEntry::at(const char* key) const {
  check(value_->is_object(), "expected an object with '{}'", key);
  check(value_->contains(key), "'{}' is missing", key);
  return {value_->at(key), fmt::format("{}.{}", place_, key)};
}

JsonEntry JsonEntry::object(const char* key) const {
  check(!null(key) && value_->at(key).is_object(), "expected an object under '{}'", key);
  return at(key);
}

JsonEntry JsonEntry::list(const char* key) const {
  check(!null(key) && value_->at(key).is_array(), "expected a list under '{}'", key);
  return at(key);
}

JsonEntry JsonEntry::item(size_t i) const {
  check(value_->is_array() && i < value_->size(), "expected a list with an item {}", i);
  return {value_->at(i), fmt::format("{}[{}]", place_, i)};
}

std::string JsonEntry::text() const {
  check(value_->is_string(), "expected a text");
  return value_->get<std::string>();
}

bool JsonEntry::flag(const char* key) const {
  const JsonEntry value = at(key);
  value.check(value.value().is_boolean(), "expected true or false, got {}", value.value().type_name());
  return value.value().get<bool>();
}

bool JsonEntry::flag(const char* key, bool otherwise) const {
  return null(key) ? otherwise : flag(key);
}

int64_t JsonEntry::count(const char* key) const {
  const JsonEntry number = at(key);
  number.check(number.value().is_number_unsigned() && number.value().get<uint64_t>() < uint64_t{1} << 32,
               "expected a count");
  return number.value().get<int64_t>();
}

int64_t JsonEntry::count(const char* key, int64_t otherwise) const {
  return null(key) ? otherwise : count(key);
}

char32_t JsonEntry::character(const char* key) const {
  const std::string one = text(key);
  const Utf8Char c = one.empty() ? Utf8Char{} : decode_utf8(one, 0);
  check(c.code != Utf8Char::kInvalid && c.bytes == one.size(), "expected one character under '{}', got '{}'",
        key, shown(one));
  return c.code;
}

int32_t JsonEntry::id() const {
  check(value_->is_number_unsigned() && value_->get<uint64_t>() < static_cast<uint64_t>(kMaxVocabulary),
        "expected an id below {}", kMaxVocabulary);
  return value_->get<int32_t>();
}

std::string read_prepend_scheme(const JsonEntry& metaspace) {
  const std::string scheme = metaspace.text("prepend_scheme", "always");
  metaspace.check(scheme == "always" || scheme == "first" || scheme == "never",
                  "prepend_scheme '{}'; expected first, never or always", shown(scheme));
  // Source: tokenizers, which also refuses it.
  metaspace.check(scheme == "never" || metaspace.flag("add_prefix_space", true),
                  "add_prefix_space is false, but prepend_scheme is {}; expected prepend_scheme never",
                  metaspace.null("prepend_scheme") ? "missing, which means always" : scheme);
  return scheme;
}

std::string shown(std::string_view text) {
  return text.size() <= 60 ? std::string(text) : fmt::format("({} bytes)", text.size());
}

}  // namespace tutti
