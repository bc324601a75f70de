#pragma once

#include <tutti/kernels/linear.h>

namespace tutti {

/// y = activation(x W1^T + b1) W2^T + b2: two linear() as one op. On a CPU, its results have the same bits as
/// those of two linear(). On CUDA, for GPT-2's GELU in bf16, the gradient between the layers is multiplied by
/// the derivative of the activation in the epilogue of its product, which saves a pass over it and a
/// rounding. Shapes: x (..., I), w1 (H, I), b1 (H) or an undefined Var, w2 (O, H), b2 (O) or an undefined Var
/// -> (..., O). Dtypes, gradients of parameters and errors are those of linear(). Saves the tensors that two
/// linear() save.
Var mlp(Tape& tape, const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
        Activation activation);

}  // namespace tutti
