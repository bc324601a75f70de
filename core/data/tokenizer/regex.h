#pragma once

#include <tutti/core/function_ref.h>

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace tutti {

/// A regular expression as in Hugging Face `tokenizers`: Oniguruma with its default syntax, on UTF-8.
/// Thread-safe.
class Regex {
 public:
  /// Throws Error with `place` if the expression is invalid or too long, or if the build has no Oniguruma.
  Regex(const std::string& pattern, std::string place);

  /// Calls `found(begin, end)` for each match in order, in UTF-8 text. Empty matches directly after another
  /// match are skipped. Throws Error if the expression needs too many steps: files are not trusted.
  void each(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  [[nodiscard]] const std::string& pattern() const noexcept { return pattern_; }

 private:
  std::string pattern_, place_;
  std::shared_ptr<void> compiled_;
};

}  // namespace tutti
