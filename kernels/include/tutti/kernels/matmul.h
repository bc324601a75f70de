#pragma once

#include <tutti/core/tape.h>

namespace tutti {

struct MatmulOptions {
  bool transpose_a = false;  ///< a is (..., K, M)
  bool transpose_b = false;  ///< b is (..., N, K)
};

/// Batched matrix product. Shapes: a (..., M, K), b (..., K, N) -> (..., M, N); batch dims broadcast, and
/// gradients are summed back over broadcast dims. fp32, bf16 (sums in fp32) or fp64. Throws Error if the
/// inner sizes differ, an input has fewer than two dims, or batch dims do not broadcast.
Var matmul(Tape& tape, const Var& a, const Var& b, const MatmulOptions& options = {});

}  // namespace tutti
