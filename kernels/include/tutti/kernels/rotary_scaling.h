#pragma once

#include <tutti/core/host_device.h>

#include <cmath>
#include <cstdint>

namespace tutti {

/// Scaling of rotary frequencies, so that a model can process longer sequences than those it was trained on.
/// With f = base^(-2 i / D), the frequency of pair i, and L = original_context:
///   linear  f / factor. Source: Chen et al. 2023, "Extending context window of large language models".
///   llama3  f for wavelengths below L / high_frequency, f / factor above L / low_frequency, interpolated
///           between. Source: Grattafiori et al. 2024, "The Llama 3 herd of models", as in transformers.
///   yarn    f for pairs with more than beta_fast rotations in L, f / factor for pairs with fewer than
///           beta_slow, interpolated between; the rotated values are multiplied by attention_factor.
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

}  // namespace tutti
