#pragma once

#include <tutti/core/random.h>
#include <tutti/core/tensor.h>
#include "kernels/row/dropout.h"

namespace tutti::cuda {

/// y = x with the mask of kernels/dropout.h: the bits are those of the CPU. `samples` equal parts of x have
/// the keys of first.sample and on. Contiguous, on the stream's device; y may be x.
void dropout(const Tensor& x, const Tensor& y, const RandomKey& first, int64_t samples, row::DropoutRule rule,
             const Stream& stream);

}  // namespace tutti::cuda
