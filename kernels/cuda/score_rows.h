#pragma once

#include <tutti/core/tensor.h>

// The row programs of attention (kernels/row/softmax_block.h) over blocks of scores on CUDA.
namespace tutti::cuda {

/// A block of scores: (matrices, rows, keys) contiguous, q k^T before scaling. Row r sees keys up to
/// position + r, or all.
struct ScoreBlock {
  Tensor scores;     ///< fp32, fp64 for fp64 operands
  int64_t position;  ///< of the first row among the keys
  bool causal;
  double scale;
  void* lse;  ///< of row r of matrix i: element i * lse_stride + r, of the scores' dtype; may be null
  int64_t lse_stride;
};

/// p, like scores in the operands' dtype: softmax(scale * scores). Writes lse. Bytes: matrices rows keys (2
/// sizeof(A) + 3 sizeof(T)) where rows do not stay in the caches.
void score_rows(const ScoreBlock& block, const Tensor& p, const Stream& stream);

/// Rows of the output and its gradient: row r of matrix i starts at element i * width + r * ld.
struct OutputRows {
  const void* out;
  const void* dout;
  int64_t width;  ///< of a row
  int64_t ld;
};
/// p again from lse, and ds, the gradient of the scores, from dp, that of p. Bytes: matrices rows keys (2
/// sizeof(A) + 2 sizeof(T)).
void score_rows_backward(const ScoreBlock& block, const Tensor& dp, const OutputRows& output, const Tensor& p,
                         const Tensor& ds, const Stream& stream);

}  // namespace tutti::cuda
