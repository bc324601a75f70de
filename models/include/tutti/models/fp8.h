#pragma once

#include <tutti/kernels/fp8.h>
#include <tutti/models/gpt.h>

namespace tutti {

/// What a linear layer remembers from step to step for products in fp8: kernels/fp8.h.
class Fp8State {
 public:
  Fp8State();

  Parameter input, weight, gradient;  ///< the ranges
  [[nodiscard]] Fp8Ranges on(Tape& tape);
};

/// Which layers compute their products in fp8.
enum class Fp8Layers : uint8_t {
  kLinear,         ///< the linear layers of the blocks
  kLinearAndHead,  ///< the head too
};

/// Attaches fp8 to the layers of a model that has no storage yet, and names its parameters again: the ranges
/// are parameters of their layers. The compute dtype must be bf16. Throws Error if a layer has it already.
void use_fp8(Gpt& model, Fp8Layers layers);

}  // namespace tutti
