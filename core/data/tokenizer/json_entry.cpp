#include <tutti/core/data/tokenizer.h>
#include <tutti/core/data/tokenizer/json_entry.h>
#include <tutti/core/data/unicode.h>

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

bool JsonEntry::flag(const char* key, bool otherwise) const {
  if (null(key)) return otherwise;
  check(value_->at(key).is_boolean(), "expected true or false under '{}'", key);
  return value_->at(key).get<bool>();
}

int64_t JsonEntry::count(const char* key, int64_t otherwise) const {
  if (null(key)) return otherwise;
  const Json& number = value_->at(key);
  check(number.is_number_unsigned() && number.get<uint64_t>() < uint64_t{1} << 32,
        "expected a count under '{}'", key);
  return number.get<int64_t>();
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

std::string shown(std::string_view text) {
  return text.size() <= 60 ? std::string(text) : fmt::format("({} bytes)", text.size());
}

}  // namespace tutti
