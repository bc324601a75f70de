#pragma once

#include <tutti/core/error.h>

#include <nlohmann/json.hpp>

#include <optional>
#include <string>

namespace tutti {

/// A value of a JSON file with its path, for messages.
class JsonEntry {
 public:
  using Json = nlohmann::json;
  JsonEntry(const Json& value, std::string place) : value_(&value), place_(std::move(place)) {}

  [[nodiscard]] const Json& value() const noexcept { return *value_; }
  [[nodiscard]] const std::string& place() const noexcept { return place_; }

  /// Throws Error "PATH: MESSAGE" unless `ok`.
  template <class... Args>
  void check(bool ok, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    if (!ok) fail("{}: {}", place_, fmt::format(format.text, std::forward<Args>(args)...));
  }

  /// Absent members are null.
  [[nodiscard]] bool null(const char* key) const {
    return !value_->is_object() || !value_->contains(key) || value_->at(key).is_null();
  }
  /// A member that must exist.
  [[nodiscard]] JsonEntry at(const char* key) const;
  [[nodiscard]] JsonEntry object(const char* key) const;
  [[nodiscard]] JsonEntry list(const char* key) const;
  [[nodiscard]] JsonEntry item(size_t i) const;
  [[nodiscard]] size_t size() const { return value_->size(); }

  [[nodiscard]] std::string text() const;
  [[nodiscard]] std::string text(const char* key) const { return at(key).text(); }
  [[nodiscard]] std::string text(const char* key, const char* otherwise) const {
    return null(key) ? otherwise : at(key).text();
  }
  [[nodiscard]] bool flag(const char* key) const;
  [[nodiscard]] bool flag(const char* key, bool otherwise) const;
  [[nodiscard]] int64_t count(const char* key) const;
  [[nodiscard]] int64_t count(const char* key, int64_t otherwise) const;
  /// A single character.
  [[nodiscard]] char32_t character(const char* key) const;
  /// An id of a vocabulary.
  [[nodiscard]] int32_t id() const;

 private:
  const Json* value_;
  std::string place_;
};

/// Whether a Metaspace adds its mark before the text: first, never or always, from its prepend_scheme.
std::string read_prepend_scheme(const JsonEntry& metaspace);

/// Text for messages; long or unprintable texts are replaced by their size.
std::string shown(std::string_view text);

}  // namespace tutti
