#pragma once

#include "kernels/plan/conv.h"

#include <algorithm>
#include <cstdint>

// What conv.cpp chooses from on the CPU.
namespace tutti::cpu {

/// Matrix products over unrolled patches: any dtype, any library.
const ConvBackend& im2col_conv();
/// nullptr where oneDNN is not built in, not chosen, or has no fast code for the dtype on this CPU.
const ConvBackend* onednn_conv(DType dtype);

/// The gradient of filters without groups as one matrix product over the pixels of all images.
void product_backward_weights(const ConvShape& shape, const Tensor& dy, const Tensor& x, const Tensor& dw,
                              GradMode mode, const Stream& stream);

/// Images are taken in this many chunks at most; each chunk is one task.
inline constexpr int64_t kConvChunks = 16;

/// The gradient of the filters is summed from this many chunks of images, in a fixed order; each chunk holds
/// a copy of it, so large filters have few.
inline int64_t conv_weight_chunks(const ConvShape& s) {
  constexpr int64_t kSmallFilters = int64_t{40} << 10;
  const int64_t filters = s.o * (s.c / s.groups) * s.kh * s.kw;
  return std::min<int64_t>(s.n, filters <= kSmallFilters ? kConvChunks : 4);
}

}  // namespace tutti::cpu
