#pragma once

#include <tutti/core/error.h>

namespace tutti {

/// A command line that asks for what cannot be, known only once it is read as a whole: the program ends with
/// the exit code of wrong usage, 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Throws UsageError with the formatted message.
template <class... Args>
[[noreturn]] void fail_usage(LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  throw UsageError(fmt::format(format.text, std::forward<Args>(args)...), format.where);
}

/// Throws UsageError with the formatted message unless `ok`.
template <class... Args>
void require_usage(bool ok, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  if (!ok) [[unlikely]] {
    throw UsageError(fmt::format(format.text, std::forward<Args>(args)...), format.where);
  }
}

/// Reads the value of an option by `read`. What is wrong with it becomes a UsageError that names the option.
template <class Read>
auto usage_of(std::string_view option, Read read) {
  try {
    return read();
  } catch (const Error& error) {
    throw UsageError(fmt::format("{}: {}", option, error.what()), error.where());
  }
}

}  // namespace tutti
