#pragma once

#include <tutti/kernels/linear.h>

namespace tutti {

/// y = activation(x W1^T + b1) W2^T + b2: two linear() as one op, which knows that nothing else reads what is
/// between them. On a CPU its bits are those of the two; on CUDA, with GPT-2's GELU in bf16, the derivative
/// of the activation is multiplied in while the gradient between the layers is written, which saves a pass
/// over it and its rounding. Shapes: x
/// (..., I), w1 (H, I), b1 (H) or an undefined Var, w2 (O, H), b2 (O) or an undefined Var -> (..., O).
/// Dtypes, gradients of parameters and errors as of linear(). Saves what the two linear() save.
Var mlp(Tape& tape, const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
        Activation activation);

}  // namespace tutti
