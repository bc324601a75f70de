#pragma once

#include <tutti/core/host_device.h>

#include <cmath>
#include <cstdint>

namespace tutti {

/// How rotary positions are stretched, so that a model reads longer sequences than it was first trained on.
/// With f = base^(-2 i / D), the frequency of pair i, and L = original_context:
///   linear  f / factor. Source: Chen et al. 2023, "Extending context window of large language models".
///   llama3  f for wavelengths below L / high_frequency, f / factor above L / low_frequency, blended between.
///           Source: Grattafiori et al. 2024, "The Llama 3 herd of models", as transformers computes it.
///   yarn    f for pairs that turn more than beta_fast times in L, f / factor for those that turn less than
///           beta_slow times, blended between; the rotated values are multiplied by attention_factor.
///           Source: Peng et al. 2023, "YaRN".
struct RotaryScaling {
  enum class Kind : uint8_t { kNone, kLinear, kLlama3, kYarn };
  Kind kind = Kind::kNone;
  double factor = 1;
  double original_context = 0;
  double low_frequency = 1;
  double high_frequency = 4;
  double beta_fast = 32;
  double beta_slow = 1;
  double attention_factor = 0;  ///< 0: 0.1 ln(factor) + 1

  /// Factor on rotated queries and keys.
  [[nodiscard]] HOST_DEVICE double amplitude() const {
    if (kind != Kind::kYarn) return 1;
    if (attention_factor > 0) return attention_factor;
    return factor > 1 ? 0.1 * ::log(factor) + 1 : 1;
  }
};

namespace row {

constexpr double kTwoPi = 6.28318530717958647693;

/// The pair of a head's dim that turns `turns` times in the original context.
HOST_DEVICE inline double turning_pair(const RotaryScaling& s, double base, double head_dim, double turns) {
  return head_dim * ::log(s.original_context / (turns * kTwoPi)) / (2 * ::log(base));
}

/// Radians a position that pair `i` of `head_dim` / 2 is turned by.
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

}  // namespace row
}  // namespace tutti
