#pragma once

#include <cstddef>
#include <string_view>

namespace tutti {

/// A published split expression that matches every character, with a manual implementation.
struct KnownRule {
  std::string_view regex;
  /// End of the word that begins at `begin` < text.size(); null: use the expression.
  size_t (*word_end)(std::string_view text, size_t begin);
};

/// The rule of an expression; null if it is unknown. All split between a letter or number and a space, and
/// the two sides are independent.
const KnownRule* known_rule(std::string_view regex);

}  // namespace tutti
