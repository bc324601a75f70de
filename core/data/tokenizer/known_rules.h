#pragma once

#include <cstddef>
#include <string_view>

namespace tutti {

/// A published split expression that matches every character, and what it does by hand.
struct KnownRule {
  std::string_view regex;
  /// Where the word that begins at `begin` < text.size() ends; null: by the expression.
  size_t (*word_end)(std::string_view text, size_t begin);
};

/// The rule of an expression; null if it is none of them. All cut between a letter or number and a space, and
/// look at nothing behind that cut or before it.
const KnownRule* known_rule(std::string_view regex);

}  // namespace tutti
