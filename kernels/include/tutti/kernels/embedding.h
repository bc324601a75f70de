#pragma once

#include <tutti/core/tape.h>

namespace tutti {

/// Rows of a table: y[..., :] = table[tokens[...], :].
/// Shapes: table (V, C) fp32, bf16 or fp64, tokens (...) int32 or int64 -> (..., C) of the table's dtype.
/// Backward adds the rows of equal tokens in the order of their positions, in fp32, without atomics; where
/// the table's gradient holds a sum already (a tied output layer), only the rows of tokens that occur are
/// touched. Throws Error if a token is outside [0, V).
Var embedding(Tape& tape, const Var& table, const Tensor& tokens);

}  // namespace tutti
