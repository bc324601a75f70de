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

  /// Where a value lies: 0 at low, 1 at high. Values that a logarithmic axis cannot show lie far below 0.
  [[nodiscard]] double position(double value) const;
};

struct Tick {
  double value = 0;
  std::string label;
};

/// Round values within the axis, some `count` of them, labelled with as few digits as tell them apart.
std::vector<Tick> ticks(const Axis& axis, int count);

/// An axis around the values from `low` to `high` with a little room; never of length 0, and finite whatever
/// comes.
Axis axis_around(double low, double high, Scale scale);

}  // namespace tutti
