#pragma once

#include <fmt/format.h>

#include <cstdlib>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace tutti {

/// The one exception type that Tutti throws on misuse, bad input and failed system calls. The message names
/// the operation, the tensor, file or key, the expected and the actual value.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message, std::source_location where = std::source_location::current())
      : std::runtime_error(message), where_(where) {}

  /// Location of the check in the source; logged at debug level, not part of `what()`.
  [[nodiscard]] const std::source_location& where() const noexcept { return where_; }

 private:
  std::source_location where_;
};

/// A format string with its source location.
template <class... Args>
struct LocatedFormat {
  template <class Text>
  consteval LocatedFormat(const Text& text_, std::source_location where_ = std::source_location::current())
      : text(text_), where(where_) {}
  fmt::format_string<Args...> text;
  std::source_location where;
};

/// Throws Error with the formatted message.
template <class... Args>
[[noreturn]] void fail(LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  throw Error(fmt::format(format.text, std::forward<Args>(args)...), format.where);
}

/// Throws Error with the formatted message unless `ok`.
template <class... Args>
void require(bool ok, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  if (!ok) [[unlikely]] {
    throw Error(fmt::format(format.text, std::forward<Args>(args)...), format.where);
  }
}

/// The text of an errno value ("No space left on device"), thread-safe.
std::string system_error_text(int error_number);

}  // namespace tutti
