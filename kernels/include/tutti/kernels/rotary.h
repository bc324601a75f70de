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

/// Rotates q and k of packed qkv by their positions; v is not changed. Element i of the first half of a head
/// and element i of its second half are one pair, rotated by position * base^(-2 i / D), or by that frequency
/// after `scaling`: the layout of Llama's checkpoints in Hugging Face's format. Angles are fp64, products
/// fp32 (fp64 for fp64). Shapes: qkv (B, T, (heads + 2 kv_heads) * D), D even -> the same. Throws Error if
/// the last dim is another. Source: Su et al. 2021, "RoFormer".
Var rotary(Tape& tape, const Var& qkv, const RotaryConfig& config);

}  // namespace tutti
