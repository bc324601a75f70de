#pragma once

#include <tutti/core/tape.h>

namespace tutti {

/// exp(x) / sum(exp(x)) over the last dim, without overflow. -infinity gives 0; a row that is all -infinity,
/// or has a NaN or +infinity, gives NaN. fp32, bf16, fp64. x (..., C) -> like x; saves the output.
Var softmax(Tape& tape, const Var& x);

/// x - log(sum(exp(x))) over the last dim, with the same rules as softmax. x (..., C) -> like x; saves the
/// output.
Var log_softmax(Tape& tape, const Var& x);

}  // namespace tutti
