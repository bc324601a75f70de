#pragma once

#include <tutti/core/tensor.h>

// The elementwise parts of Muon (kernels/optimizer/muon.cpp) on CUDA. Tensors are contiguous and on the
// stream's device; no function synchronizes with the host.
namespace tutti::cuda {

struct MuonAverage {
  Tensor grad;     ///< (n) fp32, bf16 or fp64
  Tensor running;  ///< (n) of the masters' dtype, as x
  Tensor x;        ///< (n): the matrix to orthogonalise
  double momentum, grad_scale;
  bool nesterov;
};
/// Updates the running average with grad_scale * grad, writes x and divides it by its norm. Memory traffic:
/// grad, and 6 n elements of the masters' dtype.
void muon_average(const MuonAverage& p, const Stream& stream);

/// y = own * y + other * x.
void muon_combine(const Tensor& y, double own, const Tensor& x, double other, const Stream& stream);

/// master = keep * master - rate * direction; weight = master, unless `weight` is undefined, as when it is
/// the master itself. Memory traffic: 3 n elements of the masters' dtype, and the weight.
void muon_apply(const Tensor& master, const Tensor& weight, const Tensor& direction, double keep, double rate,
                const Stream& stream);

}  // namespace tutti::cuda
