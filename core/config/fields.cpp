#include <tutti/core/config/fields.h>

#include <cmath>

namespace tutti {

bool Constraint::allows(double value) const {
  if (std::isnan(value)) return false;
  const bool low = minimum_excluded ? value > minimum : value >= minimum;
  const bool high = maximum_excluded ? value < maximum : value <= maximum;
  return low && high;
}

std::string Constraint::text() const {
  std::vector<std::string> parts;
  if (length >= 0) parts.push_back(fmt::format("{} values", length));
  if (not_empty) parts.emplace_back("not empty");
  const bool low = std::isfinite(minimum);
  const bool high = std::isfinite(maximum);
  if (low && high && !minimum_excluded && !maximum_excluded) {
    parts.push_back(fmt::format("between {} and {}", minimum, maximum));
  } else {
    if (low) parts.push_back(fmt::format("{} {}", minimum_excluded ? "above" : "at least", minimum));
    if (high) parts.push_back(fmt::format("{} {}", maximum_excluded ? "below" : "at most", maximum));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

}  // namespace tutti
