#pragma once

#include <tutti/kernels/fp8.h>

#include <optional>
#include <utility>

namespace tutti {

/// x of a linear layer. With a source, it stands for what that makes, and its own values mean nothing: only
/// where Fp8Pass::fuses() says so.
struct LinearInput {
  // Any Var is one.
  LinearInput(Var var) : x(std::move(var)) {}
  LinearInput(Var var, OperandSource made) : x(std::move(var)), source(std::move(made)) {}
  Var x;
  std::optional<OperandSource> source;
};

/// y = activation(x W^T + b).
/// Shapes: x (..., I), w (O, I), bias (O) or an undefined Var -> (..., O). fp32, bf16 (sums in fp32) or fp64,
/// equal for all. The gradients of w and bias are written in the dtype of their slots without an intermediate
/// rounding. With ranges (bf16 only), products are in fp8 as kernels/fp8.h says. Saves x, w, and for an
/// activation its input (kRelu: its output). Throws Error on other shapes or dtypes.
Var linear(Tape& tape, const LinearInput& x, const Var& w, const Var& bias,
           Activation activation = Activation::kNone, const Fp8Ranges& ranges = {});

}  // namespace tutti
