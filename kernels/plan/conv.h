#pragma once

#include <tutti/core/tape.h>

#include <array>
#include <cstdint>

// Convolutions of NHWC images with OIHW filters.
namespace tutti {

/// Sizes of a convolution; c and o are those of all groups together.
struct ConvShape {
  int64_t n = 0, h = 0, w = 0, c = 0;
  int64_t o = 0, oh = 0, ow = 0, kh = 0, kw = 0;
  std::array<int64_t, 2> stride{1, 1}, padding{0, 0}, dilation{1, 1};
  int64_t groups = 1;
  DType dtype = DType::kFloat32;
};

/// x (n, h, w, c), w: prepared() filters, y (n, oh, ow, o), contiguous, of shape.dtype. The gradient of w
/// is fp32 (fp64 for fp64), written or added according to `mode`. At least one image. Tasks depend on the
/// shape alone.
class ConvBackend {
 public:
  virtual ~ConvBackend() = default;
  /// Filters (o, c / groups, kh, kw) in the order in which forward and backward_data of this shape read them.
  /// They may be the same tensor.
  [[nodiscard]] virtual Tensor prepared(const ConvShape& shape, const Tensor& w, const Stream& stream) const {
    (void)shape, (void)stream;
    return w;
  }
  virtual void forward(const ConvShape& shape, const Tensor& x, const Tensor& w, const Tensor& y,
                       const Stream& stream) const = 0;
  virtual void backward_data(const ConvShape& shape, const Tensor& dy, const Tensor& w, const Tensor& dx,
                             const Stream& stream) const = 0;
  virtual void backward_weights(const ConvShape& shape, const Tensor& dy, const Tensor& x, const Tensor& dw,
                                GradMode mode, const Stream& stream) const = 0;
};

}  // namespace tutti
