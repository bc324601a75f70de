#pragma once

#include <tutti/kernels/rotary_scaling.h>

#include <cmath>
#include <cstdint>

namespace tutti::row {

constexpr double kTwoPi = 6.28318530717958647693;

/// The index of the pair of a head's dim that makes `turns` rotations within the original context.
HOST_DEVICE inline double turning_pair(const RotaryScaling& s, double base, double head_dim, double turns) {
  return head_dim * ::log(s.original_context / (turns * kTwoPi)) / (2 * ::log(base));
}

/// The rotation of pair `i` of `head_dim` / 2, in radians per position.
HOST_DEVICE inline double rotary_frequency(const RotaryScaling& s, double base, int64_t i, int64_t head_dim) {
  const auto dim = static_cast<double>(head_dim);
  const double f = ::pow(base, -2.0 * static_cast<double>(i) / dim);
  switch (s.kind) {
    case RotaryScaling::Kind::kNone:
      return f;
    case RotaryScaling::Kind::kLinear:
      return f / s.factor;
    case RotaryScaling::Kind::kLlama3: {
      const double turns = s.original_context * f / kTwoPi;
      if (turns > s.high_frequency) return f;
      if (turns < s.low_frequency) return f / s.factor;
      const double part = (turns - s.low_frequency) / (s.high_frequency - s.low_frequency);
      return (1 - part) * f / s.factor + part * f;
    }
    case RotaryScaling::Kind::kYarn: {
      const double low = ::fmax(::floor(turning_pair(s, base, dim, s.beta_fast)), 0.0);
      double high = ::fmin(::ceil(turning_pair(s, base, dim, s.beta_slow)), dim - 1);
      if (low == high) high += 0.001;
      const double ramp = ::fmin(::fmax((static_cast<double>(i) - low) / (high - low), 0.0), 1.0);
      return f / s.factor * ramp + f * (1 - ramp);
    }
  }
  return f;
}

}  // namespace tutti::row
