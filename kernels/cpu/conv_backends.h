#pragma once

#include <tutti/core/tape.h>

#include <algorithm>
#include <array>
#include <cstdint>

// What conv.cpp chooses from: convolutions of NHWC images with OIHW filters.
namespace tutti::cpu {

/// Sizes of a convolution; C and O count all groups.
struct ConvShape {
  int64_t n = 0, h = 0, w = 0, c = 0;
  int64_t o = 0, oh = 0, ow = 0, kh = 0, kw = 0;
  std::array<int64_t, 2> stride{1, 1}, padding{0, 0}, dilation{1, 1};
  int64_t groups = 1;
  DType dtype = DType::kFloat32;
};

/// x (n, h, w, c), w (o, c / groups, kh, kw), y (n, oh, ow, o), contiguous, of shape.dtype. The gradient of w
/// is fp32 (fp64 for fp64), written or added as `mode` says. At least one image. Work is cut by the shape
/// alone.
class ConvBackend {
 public:
  virtual ~ConvBackend() = default;
  virtual void forward(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y,
                       const Stream& stream) const = 0;
  virtual void backward_data(const ConvShape& shape, const Tensor& dy, const Tensor& w, const Tensor& dx,
                             const Stream& stream) const = 0;
  virtual void backward_weights(const ConvShape& shape, const Tensor& dy, const Tensor& x, const Tensor& dw,
                                GradMode mode, const Stream& stream) const = 0;
};

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
