#pragma once

#include <tutti/core/random.h>
#include <tutti/core/tensor.h>
#include "kernels/row/dropout.h"

namespace tutti::cuda {

/// y = x with the mask of kernels/dropout.h, with the same bits as on the CPU. x has `samples` equal parts;
/// part i has the key of sample first.sample + i. Contiguous, on the stream's device; y may be x.
void dropout(const Tensor& x, const Tensor& y, const RandomKey& first, int64_t samples, row::DropoutRule rule,
             const Stream& stream);

}  // namespace tutti::cuda
