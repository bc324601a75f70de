#pragma once

#include "kernels/plan/conv.h"

#include <algorithm>
#include <cstdint>

// The implementations of convolutions on the CPU, which conv.cpp selects from.
namespace tutti::cpu {

/// im2col and matrix products, for any dtype and library.
const ConvBackend& im2col_conv();
/// nullptr if oneDNN is not in this build, not selected, or has no fast code for the dtype on this CPU.
const ConvBackend* onednn_conv(DType dtype);

/// The gradient of filters without groups as one matrix product over the pixels of all images.
void product_backward_weights(const ConvShape& shape, const Tensor& dy, const Tensor& x, const Tensor& dw,
                              GradMode mode, const Stream& stream);

/// Maximum number of chunks of images; each chunk is one task.
inline constexpr int64_t kConvChunks = 16;

/// Number of chunks of images whose gradients of the filters are added, in a fixed order. Each chunk has its
/// own copy of the gradient, so that large filters have few chunks.
inline int64_t conv_weight_chunks(const ConvShape& s) {
  constexpr int64_t kSmallFilters = int64_t{40} << 10;
  const int64_t filters = s.o * (s.c / s.groups) * s.kh * s.kw;
  return std::min<int64_t>(s.n, filters <= kSmallFilters ? kConvChunks : 4);
}

}  // namespace tutti::cpu
