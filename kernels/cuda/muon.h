#pragma once

#include <tutti/core/tensor.h>

// The elementwise parts of Muon (kernels/optimizer/muon.cpp) on CUDA. Tensors are contiguous and on the
// stream's device; nothing waits for the host.
namespace tutti::cuda {

struct MuonAverage {
  Tensor grad;     ///< (n) fp32, bf16 or fp64
  Tensor running;  ///< (n) of the masters' dtype, as x
  Tensor x;        ///< (n): what is to be orthogonalised
  double momentum, grad_scale;
  bool nesterov;
};
/// Moves the running average towards grad_scale * grad, writes x and divides it by its norm. Bytes: grad, 6 n
/// of the masters' dtype.
void muon_average(const MuonAverage& p, const Stream& stream);

/// y = own * y + other * x.
void muon_combine(const Tensor& y, double own, const Tensor& x, double other, const Stream& stream);

/// master = keep * master - rate * direction, and the weight from it where it is another tensor, else
/// undefined. Bytes: 3 n of the masters' dtype, the weight once.
void muon_apply(const Tensor& master, const Tensor& weight, const Tensor& direction, double keep, double rate,
                const Stream& stream);

}  // namespace tutti::cuda
