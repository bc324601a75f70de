#pragma once

#include <tutti/core/tape.h>

// Elementwise arithmetic. Binary operations broadcast their inputs, aligned at the last dim; gradients are
// summed back to the inputs' shapes. Both inputs and the result have the same dtype: fp32, bf16 (computed in
// fp32) or fp64. All throw Error for other dtypes and for shapes that do not broadcast.
namespace tutti {

Var add(Tape& tape, const Var& a, const Var& b);
Var sub(Tape& tape, const Var& a, const Var& b);
Var mul(Tape& tape, const Var& a, const Var& b);
Var div(Tape& tape, const Var& a, const Var& b);

Var neg(Tape& tape, const Var& x);
Var exp(Tape& tape, const Var& x);
/// Natural logarithm.
Var log(Tape& tape, const Var& x);
Var sqrt(Tape& tape, const Var& x);
Var square(Tape& tape, const Var& x);

/// factor * x.
Var scale(Tape& tape, const Var& x, double factor);
/// x + constant.
Var add_scalar(Tape& tape, const Var& x, double constant);

}  // namespace tutti
