#pragma once

#include "core/data/tokenizer/json_entry.h"
#include "core/data/tokenizer/regex.h"

#include <optional>
#include <string>
#include <string_view>

namespace tutti {

/// What Split and Replace look for: {"String": ..} or {"Regex": ..}.
class Pattern {
 public:
  explicit Pattern(const JsonEntry& entry);

  /// Calls `found(begin, end)` for each place in order; they do not overlap.
  void each(std::string_view text, FunctionRef<void(size_t, size_t)> found) const;

  /// The expression; empty for a text.
  [[nodiscard]] std::string_view regex() const {
    return regex_ ? std::string_view(regex_->pattern()) : std::string_view();
  }
  /// Whether the places in a text are those in its parts when it is cut between a letter or number and a
  /// space: known of single characters and of runs of spaces.
  [[nodiscard]] bool stable_before_space() const;

 private:
  std::string text_;
  std::optional<Regex> regex_;
};

}  // namespace tutti
