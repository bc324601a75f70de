#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/rotary_scaling.h>

namespace tutti {

struct RotaryConfig {
  int64_t heads = 1;
  int64_t kv_heads = 1;
  double base = 10000;
  RotaryScaling scaling;
  int64_t first_position = 0;  ///< position of the first row, for inference with a cache
};

/// Rotates q and k of packed qkv by their positions; v passes through. Element i of the first half of a
/// head's dim is rotated together with element i of the second half, by position * base^(-2 i / D),
/// or what `scaling` makes of that: the layout of Llama's checkpoints as Hugging Face has them. Angles are
/// fp64, products fp32 (fp64 for fp64). Shapes: qkv (B, T, (heads + 2 kv_heads) * D), D even -> the same.
/// Throws Error if the last dim does not divide. Source: Su et al. 2021, "RoFormer".
Var rotary(Tape& tape, const Var& qkv, const RotaryConfig& config);

}  // namespace tutti
