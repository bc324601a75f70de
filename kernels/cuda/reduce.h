#pragma once

#include <tutti/core/tensor.h>

// max over rows, and gather (kernels/reduce.h, kernels/shape.h) on CUDA. Tensors are contiguous and on the
// stream's device.
namespace tutti::cuda {

/// The first largest element of each row of x (count, width) and its index (count) int64; NaN counts as the
/// largest.
void max_rows(const Tensor& x, const Tensor& y, const Tensor& winners, const Stream& stream);
/// dx (count, width) = dy at the winners, 0 elsewhere.
void max_rows_backward(const Tensor& dy, const Tensor& winners, const Tensor& dx, const Stream& stream);

/// x (outer, size, inner) -> y (outer, picks, inner) along the middle; `picks` int64, all in [0, size).
void gather(const Tensor& x, const Tensor& picks, const Tensor& y, const Stream& stream);
/// Adds dy to dx (outer, size, inner) at the picks. Repeated picks are added in their order.
void gather_backward(const Tensor& dy, const Tensor& picks, const Tensor& dx, const Stream& stream);

}  // namespace tutti::cuda
