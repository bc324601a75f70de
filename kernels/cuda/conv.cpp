#include "kernels/cuda/conv.h"

#include "kernels/cuda/cudnn.h"
#include "kernels/sums.h"

#include <utility>

namespace tutti::cuda {
namespace {

CudnnMemory memory_of(const Tensor& x, const Tensor& w, const Tensor& y) {
  return {{kImages, x.raw()}, {kFilters, w.raw()}, {kResults, y.raw()}};
}

/// Runs a pass: reads two of x, w (OHWI) and y, and writes the third. False if cuDNN has no plan for it.
bool run(ConvPass pass, const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
         const Stream& stream) {
  if (s.dtype == DType::kFloat64) return false;
  return cudnn_run(ConvProblem{pass, s, w.dtype()}, memory_of(x, w, y), stream);
}

class CudnnConv final : public ConvBackend {
 public:
  /// OHWI.
  [[nodiscard]] Tensor prepared(const ConvShape&, const Tensor& w, const Stream& stream) const override {
    return aligned(to_ohwi(w, stream), stream);
  }

  void forward(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
               const Stream& stream) const override {
    if (!run(ConvPass::kForward, s, aligned(x, stream), w, y, stream))
      im2col_conv().forward(s, x, from_ohwi(w).to_contiguous(stream), y, stream);
  }

  void backward_data(const ConvShape& s, const Tensor& dy, const Tensor& w, const Tensor& dx,
                     const Stream& stream) const override {
    if (!run(ConvPass::kData, s, dx, w, aligned(dy, stream), stream))
      im2col_conv().backward_data(s, dy, from_ohwi(w).to_contiguous(stream), dx, stream);
  }

  void backward_weights(const ConvShape& s, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        GradMode mode, const Stream& stream) const override {
    const Tensor aligned_dy = aligned(dy, stream);
    const Tensor aligned_x = aligned(x, stream);
    const auto result = [&](DType dtype) {
      return Tensor::empty({s.o, s.kh, s.kw, s.c / s.groups}, dtype, stream);
    };
    // cuDNN may write fp32 gradients from bf16 images, but by a slow engine: of large convolutions, the
    // faster dtype is tried first. Small ones are not measured.
    DType first = dw.dtype();
    DType second = s.dtype;
    if (first != second && stream.algorithm_selection() == AlgorithmSelection::kAutotuned) {
      const auto milliseconds = [&](DType dtype) {
        return cudnn_measured(ConvProblem{ConvPass::kWeights, s, dtype},
                              memory_of(aligned_x, result(dtype), aligned_dy), stream);
      };
      if (milliseconds(second) < milliseconds(first)) std::swap(first, second);
    }
    for (const DType dtype : {first, second}) {
      const Tensor ohwi = result(dtype);
      if (run(ConvPass::kWeights, s, aligned_x, ohwi, aligned_dy, stream))
        return store(from_ohwi(ohwi), dw, mode, stream);
    }
    im2col_conv().backward_weights(s, dy, x, dw, mode, stream);
  }
};

}  // namespace

Tensor to_ohwi(const Tensor& w, const Stream& stream) {
  // 1 x 1 filters have the same memory layout in both orders.
  if (w.size(2) * w.size(3) == 1) return w.view({w.size(0), 1, 1, w.size(1)});
  return w.permute({0, 2, 3, 1}).to_contiguous(stream);
}

Tensor from_ohwi(const Tensor& w) {
  return w.permute({0, 3, 1, 2});
}

const ConvBackend& conv_backend() {
  static const CudnnConv backend;
  return backend;
}

}  // namespace tutti::cuda
