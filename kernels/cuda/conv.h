#pragma once

#include "kernels/plan/conv.h"

// Convolutions of NHWC images on CUDA, with the same interface as those on the CPU.
namespace tutti::cuda {

/// cuDNN, with plans that are autotuned on first use; im2col_conv() for problems without a plan.
const ConvBackend& conv_backend();

/// im2col and matrix products, for any dtype and shape.
const ConvBackend& im2col_conv();

/// OIHW filters to OHWI, the order for NHWC images, and back.
Tensor to_ohwi(const Tensor& w, const Stream& stream);
Tensor from_ohwi(const Tensor& w);

}  // namespace tutti::cuda
