#pragma once

#include <tutti/core/function_ref.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace tutti {

/// A regular expression as Hugging Face `tokenizers` reads it: by Oniguruma with its default syntax, on
/// UTF-8. May be used by several threads at once.
class Regex {
 public:
  /// Throws Error naming `place` if the expression is not valid, too long, or this build has no Oniguruma.
  Regex(const std::string& pattern, std::string place);

  /// Calls `found(begin, end)` for each match in order, in UTF-8 text. Empty matches right behind another
  /// match are left out. Throws Error if the expression needs too many steps: files are not trusted.
  void each(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  [[nodiscard]] const std::string& pattern() const noexcept { return pattern_; }

 private:
  std::string pattern_, place_;
  std::shared_ptr<void> compiled_;
};

}  // namespace tutti
