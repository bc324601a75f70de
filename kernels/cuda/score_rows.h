#pragma once

#include <tutti/core/tensor.h>

// The row programs of attention (kernels/row/softmax_block.h) over blocks of scores on CUDA.
namespace tutti::cuda {

/// A block of scores: (matrices, rows, keys) contiguous, q k^T before scaling. If `causal`, keys 0 to
/// position + r are visible to row r, else all.
struct ScoreBlock {
  Tensor scores;     ///< fp32, fp64 for fp64 operands
  int64_t position;  ///< position of the first row
  bool causal;
  double scale;
  void* lse;  ///< row r of matrix i has element i * lse_stride + r, of the scores' dtype; may be null
  int64_t lse_stride;
};

/// p = softmax(scale * scores), in the shape of scores and the operands' dtype. Writes lse. Memory traffic:
/// matrices rows keys (2 sizeof(A) + 3 sizeof(T)) if rows do not stay in the caches.
void score_rows(const ScoreBlock& block, const Tensor& p, const Stream& stream);

/// Rows of the output and its gradient: row r of matrix i starts at element i * width + r * ld.
struct OutputRows {
  const void* out;
  const void* dout;
  int64_t width;  ///< elements of a row
  int64_t ld;
};
/// Recomputes p from lse, and computes ds, the gradient of the scores, from dp, the gradient of p. Memory
/// traffic: matrices rows keys (2 sizeof(A) + 2 sizeof(T)).
void score_rows_backward(const ScoreBlock& block, const Tensor& dp, const OutputRows& output, const Tensor& p,
                         const Tensor& ds, const Stream& stream);

}  // namespace tutti::cuda
