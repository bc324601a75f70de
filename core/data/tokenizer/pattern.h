#pragma once

#include "core/data/tokenizer/json_entry.h"
#include "core/data/tokenizer/regex.h"

#include <optional>
#include <string>
#include <string_view>

namespace tutti {

/// The pattern of Split and Replace: {"String": ..} or {"Regex": ..}.
class Pattern {
 public:
  explicit Pattern(const JsonEntry& entry);

  /// Calls `found(begin, end)` for each match in order; matches do not overlap.
  void each(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  /// The expression; empty for a text.
  [[nodiscard]] std::string_view regex() const {
    return regex_ ? std::string_view(regex_->pattern()) : std::string_view();
  }
  /// Whether the matches in a text are those in its parts if it is split between a letter or number and a
  /// space: true for single characters and for runs of spaces.
  [[nodiscard]] bool stable_before_space() const;

 private:
  std::string text_;
  std::optional<Regex> regex_;
};

}  // namespace tutti
