#pragma once

#include <tutti/core/tensor.h>

#include <string>
#include <vector>

namespace tutti {

/// The processor's or the GPU's model.
std::string device_model(const Device& device);

/// A tensor of normally distributed numbers with deviation 1, the same for the same `seed`. Large tensors
/// repeat a block: to the speed of kernels that makes no difference.
Tensor random_values(const Shape& shape, DType dtype, uint64_t seed, const Stream& stream);

/// An int32 tensor of whole numbers in [0, end), the same for the same `seed`.
Tensor random_indices(const Shape& shape, int64_t end, uint64_t seed, const Stream& stream);

}  // namespace tutti
