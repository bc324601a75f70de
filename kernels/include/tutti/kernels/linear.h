#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/activation.h>

namespace tutti {

/// y = activation(x W^T + b).
/// Shapes: x (..., I), w (O, I), bias (O) or an undefined Var -> (..., O). fp32, bf16 (sums in fp32) or fp64,
/// the same for all. The gradients of w and bias are written in the dtype of their slots without an
/// intermediate rounding. Saves x, w, and the activation's input (kRelu: its output; kNone: nothing). Throws
/// Error for other shapes or dtypes. In fp8: kernels/fp8.h.
Var linear(Tape& tape, const Var& x, const Var& w, const Var& bias,
           Activation activation = Activation::kNone);

}  // namespace tutti
