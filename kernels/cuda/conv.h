#pragma once

#include "kernels/plan/conv.h"

// Convolutions of NHWC images on CUDA, behind the interface of the CPU's.
namespace tutti::cuda {

/// cuDNN, its plans measured on first use; what it has no plan for goes to unfolded_conv().
const ConvBackend& conv_backend();

/// Matrix products over unfolded patches, in any dtype and shape.
const ConvBackend& unfolded_conv();

/// OIHW filters as OHWI, which NHWC images want, and back.
Tensor to_ohwi(const Tensor& w, const Stream& stream);
Tensor from_ohwi(const Tensor& w);

}  // namespace tutti::cuda
