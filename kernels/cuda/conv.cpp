#include "kernels/cuda/conv.h"

#include "kernels/cuda/cudnn.h"
#include "kernels/sums.h"

namespace tutti::cuda {
namespace {

/// x, w (OHWI) and y of one pass, two of which are read.
bool run(ConvPass pass, const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
         const Stream& stream) {
  if (s.dtype == DType::kFloat64) return false;
  return cudnn_run(ConvProblem{pass, s, w.dtype()},
                   {{kImages, x.raw()}, {kFilters, w.raw()}, {kResults, y.raw()}}, stream);
}

class CudnnConv final : public ConvBackend {
 public:
  void forward(const ConvShape& s, const Tensor& x, const Tensor& w, const Tensor& y,
               const Stream& stream) const override {
    const Tensor turned = aligned(to_ohwi(w, stream), stream);
    if (!run(ConvPass::kForward, s, aligned(x, stream), turned, y, stream)) {
      unfolded_conv().forward(s, x, w, y, stream);
    }
  }

  void backward_data(const ConvShape& s, const Tensor& dy, const Tensor& w, const Tensor& dx,
                     const Stream& stream) const override {
    const Tensor turned = aligned(to_ohwi(w, stream), stream);
    if (!run(ConvPass::kData, s, dx, turned, aligned(dy, stream), stream)) {
      unfolded_conv().backward_data(s, dy, w, dx, stream);
    }
  }

  void backward_weights(const ConvShape& s, const Tensor& dy, const Tensor& x, const Tensor& dw,
                        GradMode mode, const Stream& stream) const override {
    const Tensor there = aligned(dy, stream);
    const Tensor here = aligned(x, stream);
    // In fp32 where cuDNN can write that from bf16 images.
    for (const DType dtype : {dw.dtype(), s.dtype}) {
      const Tensor turned = Tensor::empty({s.o, s.kh, s.kw, s.c / s.groups}, dtype, stream);
      if (!run(ConvPass::kWeights, s, here, turned, there, stream)) continue;
      return store(from_ohwi(turned), dw, mode, stream);
    }
    unfolded_conv().backward_weights(s, dy, x, dw, mode, stream);
  }
};

}  // namespace

Tensor to_ohwi(const Tensor& w, const Stream& stream) {
  // Filters of one tap stand alike in both orders.
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
