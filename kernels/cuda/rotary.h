#pragma once

#include <tutti/core/tensor.h>
#include "kernels/row/rotary.h"

namespace tutti::cuda {

/// Each row of x (B, T, width) begins with `rotated` heads of `head_dim` that are rotated; the rest is
/// copied.
struct Rotation {
  int64_t rotated;
  int64_t head_dim;
  double base;
  RotaryScaling scaling;
  int64_t first_position;
  double direction;  ///< 1, or -1 for the inverse rotation
};

/// y = x, rotated as in kernels/rotary.h; contiguous, on the stream's device; y may be x.
void rotate(const Tensor& x, const Tensor& y, const Rotation& rotation, const Stream& stream);

}  // namespace tutti::cuda
