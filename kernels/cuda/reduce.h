#pragma once

#include <tutti/core/tensor.h>

// max over rows, and gather (kernels/reduce.h, kernels/shape.h) on CUDA. Tensors are contiguous and on the
// stream's device.
namespace tutti::cuda {

/// The first largest element of each row of x (count, width) and its index (count) int64; NaN wins.
void max_rows(const Tensor& x, const Tensor& y, const Tensor& winners, const Stream& stream);
/// dx (count, width) = 0 but for dy at the winners.
void max_rows_backward(const Tensor& dy, const Tensor& winners, const Tensor& dx, const Stream& stream);

/// x (outer, size, inner) -> y (outer, picks, inner) along the middle; `picks` int64, all in [0, size).
void gather(const Tensor& x, const Tensor& picks, const Tensor& y, const Stream& stream);
/// Adds to dx (outer, size, inner). Repeated picks add up in their order.
void gather_backward(const Tensor& dy, const Tensor& picks, const Tensor& dx, const Stream& stream);

}  // namespace tutti::cuda
