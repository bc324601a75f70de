#pragma once

#include <tutti/kernels/cross_entropy.h>
#include "kernels/cuda/softmax.h"

// Parts of cross_entropy() on CUDA and of linear_cross_entropy().
namespace tutti {

struct LossOfLogits {
  Tensor loss;               ///< ()
  cuda::CrossEntropy saved;  ///< for its gradient
};
/// The loss that cross_entropy() computes, on a CUDA stream. Throws Error if shapes do not fit; a target out
/// of range makes the loss NaN.
LossOfLogits loss_of_logits(const Tensor& logits, const Tensor& targets, const CrossEntropyOptions& options,
                            const Stream& stream);

}  // namespace tutti
