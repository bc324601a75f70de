#pragma once

#include <tutti/core/tensor.h>

// fill, copy and add_in_place (core/tensor.h) where a tensor is on a CUDA device.
namespace tutti::cuda {

void fill(const Tensor& destination, double value, const Stream& stream);
/// Any two of CPU and CUDA devices, at least one of them CUDA.
void copy(const Tensor& destination, const Tensor& source, const Stream& stream);
void add_in_place(const Tensor& destination, const Tensor& source, const Stream& stream);

/// (), of the value's floating dtype: 1, or NaN where the value () is not finite.
Tensor one_if_finite(const Tensor& value, const Stream& stream);

/// copy() within one device, by a kernel: any strides, any dtypes.
void convert(const Tensor& destination, const Tensor& source, const Stream& stream);

}  // namespace tutti::cuda
