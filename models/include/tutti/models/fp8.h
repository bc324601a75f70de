#pragma once

#include <tutti/kernels/fp8.h>
#include <tutti/models/gpt.h>

namespace tutti {

/// State of a linear layer for matrix products in fp8: kernels/fp8.h.
class Fp8State {
 public:
  Fp8State();

  Parameter input, weight, gradient;  ///< the ranges
  [[nodiscard]] Fp8Ranges on(Tape& tape);
};

/// Layers with matrix products in fp8.
enum class Fp8Layers : uint8_t {
  kLinear,         ///< the linear layers of the blocks
  kLinearAndHead,  ///< the head too
};

/// Enables fp8 in the layers of a model without storage, and names its parameters again: the ranges are
/// parameters of their layers. The compute dtype must be bf16. Throws Error if a layer already uses fp8.
void use_fp8(Gpt& model, Fp8Layers layers);

}  // namespace tutti
