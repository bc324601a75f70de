#pragma once

#include <tutti/core/error.h>

#include <cerrno>
#include <string>
#include <type_traits>
#include <utility>

namespace tutti {

/// The result of a check of a system call, with errno after the call. A parameter of this type is constructed
/// from the check before anything else can change errno, for any order of evaluation of the other arguments.
class SystemCheck {
 public:
  SystemCheck(bool ok) noexcept : error_number_(ok ? 0 : errno), ok_(ok) {}  // NOLINT: converts by design
  [[nodiscard]] bool ok() const noexcept { return ok_; }
  [[nodiscard]] int error_number() const noexcept { return error_number_; }

 private:
  int error_number_;
  bool ok_;
};

/// Throws Error with the formatted message, a colon and the text of errno unless the check holds:
/// `require_system(::rename(from, to) == 0, "{}: cannot rename to it", to)`.
template <class... Args>
void require_system(SystemCheck check, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) {
  if (!check.ok()) [[unlikely]] {
    throw Error(fmt::format(format.text, std::forward<Args>(args)...) + ": " +
                    system_error_text(check.error_number()),
                format.where);
  }
}

}  // namespace tutti
