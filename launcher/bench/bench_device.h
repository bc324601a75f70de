#pragma once

#include <tutti/core/tensor.h>

#include <string>
#include <vector>

namespace tutti {

/// The model name of the processor or GPU.
std::string device_model(const Device& device);

/// A tensor of normally distributed numbers with deviation 1, the same for the same `seed`. Large tensors
/// repeat a block, which does not change the speed of kernels.
Tensor random_values(const Shape& shape, DType dtype, uint64_t seed, const Stream& stream);

/// An int32 tensor of uniform integers in [0, end), the same for the same `seed`.
Tensor random_indices(const Shape& shape, int64_t end, uint64_t seed, const Stream& stream);

}  // namespace tutti
