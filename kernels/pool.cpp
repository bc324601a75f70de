#include <tutti/kernels/pool.h>

#include <tutti/kernels/reduce.h>
#include "kernels/cpu/ranges.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/pool.h"
#include "kernels/gradient.h"
#include "kernels/row/pool.h"

namespace tutti {
namespace {

using row::PoolGeometry;

/// (N, C, H, W) is treated as N C images of one channel.
PoolGeometry geometry(std::string_view op, const Tensor& x, const Pool2dOptions& o) {
  require(x.dims() == 4, "{}: x has shape {}, expected four dims", op, to_string(x.shape()));
  const bool last = o.layout == ImageLayout::kNhwc;
  PoolGeometry g;
  g.images = last ? x.size(0) : x.size(0) * x.size(1);
  g.channels = last ? x.size(3) : 1;
  g.count_padding = o.count_padding;
  for (size_t d = 0; d < 2; ++d) {
    g.in[d] = x.size(static_cast<int>(d) + (last ? 1 : 2));
    g.kernel[d] = o.kernel[d];
    g.stride[d] = o.stride[d] == 0 ? o.kernel[d] : o.stride[d];
    g.padding[d] = o.padding[d];
    require(g.kernel[d] >= 1 && g.stride[d] >= 1 && g.padding[d] >= 0 && 2 * g.padding[d] <= g.kernel[d],
            "{}: kernel {}, stride {}, padding {}: sizes must be positive, padding at most half the kernel",
            op, g.kernel[d], g.stride[d], g.padding[d]);
    require(g.in[d] + 2 * g.padding[d] >= g.kernel[d], "{}: a window of {} does not fit {} with padding {}",
            op, g.kernel[d], g.in[d], g.padding[d]);
    g.out[d] = (g.in[d] + 2 * g.padding[d] - g.kernel[d]) / g.stride[d] + 1;
  }
  require(g.kernel[0] * g.kernel[1] <= 65535, "{}: a window of {} x {} has more than 65535 elements", op,
          g.kernel[0], g.kernel[1]);
  return g;
}

Shape output_shape(const Tensor& x, const PoolGeometry& g, ImageLayout layout) {
  return layout == ImageLayout::kNhwc ? Shape{x.size(0), g.out[0], g.out[1], x.size(3)}
                                      : Shape{x.size(0), x.size(1), g.out[0], g.out[1]};
}

/// Calls f(team, image, line) for each of `lines` lines of all images.
template <class F>
void for_lines(const PoolGeometry& g, int64_t lines, int64_t line_elements, const Stream& stream,
               const F& f) {
  const int64_t window = g.kernel[0] * g.kernel[1];
  for_ranges(stream, g.images * lines, rows_per_task(line_elements * window),
             [=](int64_t begin, int64_t end) {
               SerialTeam team;
               for (int64_t i = begin; i < end; ++i) f(team, i / lines, i % lines);
             });
}

void max_forward(const PoolGeometry& g, const Tensor& in, const Tensor& y, const Tensor& winners,
                 const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::max_pool(g, in, y, winners, stream);
  }
  dispatch_compute(in.dtype(), "max_pool2d", [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    T* to = y.data<T>();
    auto* at = static_cast<uint16_t*>(winners.raw());
    for_lines(g, g.out[0], g.out_line(), stream, [=](SerialTeam& team, int64_t image, int64_t line) {
      const int64_t o = (image * g.out[0] + line) * g.out_line();
      row::max_pool_line(team, g, from + image * g.in_image(), line, to + o, at + o);
    });
  });
}

void max_backward(const PoolGeometry& g, const Tensor& dy, const Tensor& winners, const Tensor& dx,
                  bool accumulate, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::pool_backward(g, {dy, winners, dx, accumulate}, stream);
  }
  dispatch_compute(dy.dtype(), "max_pool2d", [&]<class T>(TypeTag<T>) {
    const T* d = dy.data<T>();
    const auto* at = static_cast<const uint16_t*>(winners.raw());
    T* to = dx.data<T>();
    for_lines(g, g.in[0], g.in_line(), stream, [=](SerialTeam& team, int64_t image, int64_t line) {
      const int64_t o = image * g.out_image();
      row::max_pool_line_backward(team, g, d + o, at + o, line,
                                  to + image * g.in_image() + line * g.in_line(), accumulate);
    });
  });
}

void avg_forward(const PoolGeometry& g, const Tensor& in, const Tensor& y, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::avg_pool(g, in, y, stream);
  }
  dispatch_compute(in.dtype(), "avg_pool2d", [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    T* to = y.data<T>();
    for_lines(g, g.out[0], g.out_line(), stream, [=](SerialTeam& team, int64_t image, int64_t line) {
      row::avg_pool_line(team, g, from + image * g.in_image(), line,
                         to + (image * g.out[0] + line) * g.out_line());
    });
  });
}

void avg_backward(const PoolGeometry& g, const Tensor& dy, const Tensor& dx, bool accumulate,
                  const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::pool_backward(g, {dy, Tensor(), dx, accumulate}, stream);
  }
  dispatch_compute(dy.dtype(), "avg_pool2d", [&]<class T>(TypeTag<T>) {
    const T* d = dy.data<T>();
    T* to = dx.data<T>();
    for_lines(g, g.in[0], g.in_line(), stream, [=](SerialTeam& team, int64_t image, int64_t line) {
      row::avg_pool_line_backward(team, g, d + image * g.out_image(), line,
                                  to + image * g.in_image() + line * g.in_line(), accumulate);
    });
  });
}

}  // namespace

Var max_pool2d(Tape& tape, const Var& x, const Pool2dOptions& options) {
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  const PoolGeometry g = geometry("max_pool2d", in, options);
  const Tensor y = Tensor::empty(output_shape(in, g, options.layout), in.dtype(), stream);
  const Tensor winners = Tensor::empty({y.numel() * 2}, DType::kUInt8, stream);
  max_forward(g, in, y, winners, stream);
  return tape.record("max_pool2d", y, {x}, [=](const Tensor& dy, const Gradients& gradients) {
    write_gradient(gradients, 0, dy.dtype(), stream, [&](const Tensor& dx, GradMode mode) {
      max_backward(g, dy, winners, dx, mode == GradMode::kAccumulate, stream);
    });
  });
}

Var avg_pool2d(Tape& tape, const Var& x, const Pool2dOptions& options) {
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  const PoolGeometry g = geometry("avg_pool2d", in, options);
  const Tensor y = Tensor::empty(output_shape(in, g, options.layout), in.dtype(), stream);
  avg_forward(g, in, y, stream);
  return tape.record("avg_pool2d", y, {x}, [=](const Tensor& dy, const Gradients& gradients) {
    write_gradient(gradients, 0, dy.dtype(), stream, [&](const Tensor& dx, GradMode mode) {
      avg_backward(g, dy, dx, mode == GradMode::kAccumulate, stream);
    });
  });
}

Var global_avg_pool(Tape& tape, const Var& x, ImageLayout layout) {
  require(x.value.dims() == 4, "global_avg_pool: x has shape {}, expected four dims", to_string(x.shape()));
  return layout == ImageLayout::kNhwc ? mean(tape, x, {1, 2}) : mean(tape, x, {2, 3});
}

}  // namespace tutti
