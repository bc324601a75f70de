#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tutti {

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`, each costing 1
/// (optimal string alignment; Damerau 1964).
int64_t edit_distance(std::string_view a, std::string_view b);

/// The closest candidate to `text`, or "" if none is close: at most one edit for every three characters, and
/// at least one. Upper and lower case, '-' and '_' are equal.
std::string nearest(std::string_view text, std::span<const std::string> candidates);

/// "; did you mean 'x'?", or "" when no candidate is close.
std::string did_you_mean(std::string_view text, std::span<const std::string> candidates);

}  // namespace tutti
