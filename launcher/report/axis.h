#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

enum class Scale : uint8_t { kLinear, kLogarithmic };

/// A range of values along one side of a plot.
struct Axis {
  double low = 0;
  double high = 1;
  Scale scale = Scale::kLinear;

  /// The position of a value: 0 at low, 1 at high; far below 0 for values that have no logarithm.
  [[nodiscard]] double position(double value) const;
};

struct Tick {
  double value = 0;
  std::string label;
};

/// About `count` round values within the axis, labelled with the fewest digits that distinguish them.
std::vector<Tick> ticks(const Axis& axis, int count);

/// An axis that contains the values from `low` to `high` and a margin. Its length is positive and finite for
/// any values.
Axis axis_around(double low, double high, Scale scale);

}  // namespace tutti
