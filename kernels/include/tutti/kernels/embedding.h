#pragma once

#include <tutti/core/tape.h>

namespace tutti {

/// Rows of a table: y[..., :] = table[tokens[...], :].
/// Shapes: table (V, C) fp32, bf16 or fp64, tokens (...) int32 or int64 -> (..., C) of the table's dtype.
/// Backward adds the rows of equal tokens in fp32, in an order that depends on the tokens alone; if the
/// table's gradient is accumulated (a tied output layer), only the rows of tokens that occur are read and
/// written. Throws Error if a token is outside [0, V); on CUDA, its row is NaN instead.
Var embedding(Tape& tape, const Var& table, const Tensor& tokens);

}  // namespace tutti
