#pragma once

#include <tutti/kernels/cross_entropy.h>
#include "kernels/cuda/softmax.h"

// What cross_entropy() on CUDA and linear_cross_entropy() are put together from.
namespace tutti {

struct LossOfLogits {
  Tensor loss;               ///< ()
  cuda::CrossEntropy saved;  ///< what its gradient is made of
};
/// The loss that cross_entropy() computes, on a CUDA stream. Throws Error if shapes do not fit; a wrong
/// target makes the loss NaN.
LossOfLogits loss_of_logits(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                            const Stream& stream);

}  // namespace tutti
