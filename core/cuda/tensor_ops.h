#pragma once

#include <tutti/core/tensor.h>

// fill, copy and add_in_place (core/tensor.h) for tensors on CUDA devices.
namespace tutti::cuda {

void fill(const Tensor& destination, double value, const Stream& stream);
/// Between any two devices, at least one of which is a CUDA device.
void copy(const Tensor& destination, const Tensor& source, const Stream& stream);
void add_in_place(const Tensor& destination, const Tensor& source, const Stream& stream);

/// A scalar of the dtype of the floating-point scalar `value`: 1, or NaN if the value is not finite.
Tensor one_if_finite(const Tensor& value, const Stream& stream);

/// copy() within one device by a kernel, for any strides and dtypes.
void convert(const Tensor& destination, const Tensor& source, const Stream& stream);

}  // namespace tutti::cuda
