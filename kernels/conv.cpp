#include <tutti/kernels/conv.h>

#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/shape.h>
#include "kernels/cpu/conv_backends.h"
#include "kernels/cpu/ranges.h"
#include "kernels/cuda/conv.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gradient.h"

namespace tutti {
namespace {

int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
  const int64_t span = size + 2 * padding - dilation * (kernel - 1) - 1;
  return span < 0 ? 0 : span / stride + 1;
}

ConvShape check_shape(const Tensor& x, const Tensor& w, const Conv2dOptions& o) {
  require(x.defined() && w.defined() && x.dims() == 4 && w.dims() == 4,
          "conv2d: needs images and filters of four dims, got {} and {}", to_string(x.shape()),
          to_string(w.shape()));
  require(x.dtype() == w.dtype(), "conv2d: x is {}, w is {}", name(x.dtype()), name(w.dtype()));
  const bool nhwc = o.layout == ImageLayout::kNhwc;
  ConvShape s{.n = x.size(0),
              .h = x.size(nhwc ? 1 : 2),
              .w = x.size(nhwc ? 2 : 3),
              .c = x.size(nhwc ? 3 : 1),
              .o = w.size(0),
              .kh = w.size(2),
              .kw = w.size(3),
              .stride = o.stride,
              .padding = o.padding,
              .dilation = o.dilation,
              .groups = o.groups,
              .dtype = x.dtype()};
  for (const size_t i : {0, 1}) {
    require(o.stride[i] >= 1 && o.padding[i] >= 0 && o.dilation[i] >= 1,
            "conv2d: stride {}, padding {}, dilation {}: stride and dilation must be positive, padding not "
            "negative",
            o.stride[i], o.padding[i], o.dilation[i]);
  }
  require(o.groups >= 1 && s.c % o.groups == 0 && s.o % o.groups == 0 && w.size(1) == s.c / o.groups &&
              s.kh >= 1 && s.kw >= 1,
          "conv2d: filters {} with {} groups do not fit images {} ({})", to_string(w.shape()), o.groups,
          to_string(x.shape()), nhwc ? "NHWC" : "NCHW");
  s.oh = output_size(s.h, s.kh, s.stride[0], s.padding[0], s.dilation[0]);
  s.ow = output_size(s.w, s.kw, s.stride[1], s.padding[1], s.dilation[1]);
  require(s.oh >= 1 && s.ow >= 1, "conv2d: filters {} are larger than images {}", to_string(w.shape()),
          to_string(x.shape()));
  return s;
}

/// Converts images from `layout` to NHWC, and back.
Tensor to_nhwc(const Tensor& x, ImageLayout layout, const Stream& stream) {
  return (layout == ImageLayout::kNhwc ? x : x.permute({0, 2, 3, 1})).to_contiguous(stream);
}
Tensor from_nhwc(const Tensor& x, ImageLayout layout, const Stream& stream) {
  return layout == ImageLayout::kNhwc ? x : x.permute({0, 3, 1, 2}).to_contiguous(stream);
}

const ConvBackend& backend(DType dtype, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::conv_backend();
  }
  const ConvBackend* fast = cpu::onednn_conv(dtype);
  return fast != nullptr ? *fast : cpu::im2col_conv();
}

Var convolve(Tape& tape, const Var& x, const Var& w, const Conv2dOptions& options) {
  const Stream& stream = tape.stream();
  const ConvShape s = check_shape(x.value, w.value, options);
  dispatch_compute(s.dtype, "conv2d", [](auto) {});
  const Tensor in = to_nhwc(x.value, options.layout, stream);
  const Tensor filters = backend(s.dtype, stream).prepared(s, w.value.to_contiguous(stream), stream);
  const Tensor y = Tensor::empty({s.n, s.oh, s.ow, s.o}, s.dtype, stream);
  if (s.n > 0) backend(s.dtype, stream).forward(s, in, filters, y, stream);
  return tape.record(
      "conv2d", from_nhwc(y, options.layout, stream), {x, w},
      [s, in, filters, layout = options.layout, stream](const Tensor& gradient, const Gradients& gradients) {
        const Tensor dy = to_nhwc(gradient, layout, stream);
        if (gradients.needs(1)) {
          const DType sums = s.dtype == DType::kFloat64 ? DType::kFloat64 : DType::kFloat32;
          write_gradient(gradients, 1, sums, stream, [&](const Tensor& dw, GradMode mode) {
            if (s.n > 0)
              backend(s.dtype, stream).backward_weights(s, dy, in, dw, mode, stream);
            else if (mode == GradMode::kOverwrite)
              fill(dw, 0, stream);
          });
        }
        if (gradients.needs(0)) {
          const Tensor dx = Tensor::empty(in.shape(), s.dtype, stream);
          if (s.n > 0) backend(s.dtype, stream).backward_data(s, dy, filters, dx, stream);
          gradients.add(0, from_nhwc(dx, layout, stream));
        }
      });
}

}  // namespace

Var conv2d(Tape& tape, const Var& x, const Var& w, const Var& bias, const Conv2dOptions& options) {
  Var y = convolve(tape, x, w, options);
  if (!bias.value.defined()) return y;
  const int64_t outputs = w.value.size(0);
  require(bias.shape() == Shape{outputs}, "conv2d: bias {} for {} outputs", to_string(bias.shape()), outputs);
  if (options.layout == ImageLayout::kNhwc) return add(tape, y, bias);
  return add(tape, y, view(tape, bias, {outputs, 1, 1}));
}

}  // namespace tutti
