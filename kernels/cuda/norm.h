#pragma once

#include <tutti/core/tensor.h>

// layer_norm and rms_norm (kernels/norm.h) on CUDA. All tensors are contiguous and on the stream's device.
namespace tutti::cuda {

struct NormForward {
  bool centred;  ///< layer_norm; else rms_norm
  double eps;
  Tensor x;         ///< (rows, n)
  Tensor residual;  ///< like x: normalises x + residual and writes it to `sum`; or undefined
  Tensor sum;       ///< like x; may be x or residual
  Tensor w;         ///< (n)
  Tensor b;         ///< (n) or undefined
  Tensor y;         ///< like x, or undefined
  Tensor moments;   ///< (rows, 2): mean (0 unless centred) and rstd, fp32 or fp64
};
void norm_forward(const NormForward& p, const Stream& stream);

struct NormBackward {
  bool centred;
  Tensor dy, x;     ///< (rows, n)
  Tensor w;         ///< (n)
  Tensor moments;   ///< (rows, 2)
  Tensor dx;        ///< like x, or undefined; may be dy
  bool accumulate;  ///< adds to dx
};
/// Returns partial sums of dy xhat and of dy over chunks of rows, (chunks, 2 n) in the accumulate dtype;
/// their totals are the gradients of w and b. The rows of a chunk depend on the shape alone.
Tensor norm_backward(const NormBackward& p, const Stream& stream);

}  // namespace tutti::cuda
