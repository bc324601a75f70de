#include <tutti/kernels/softmax.h>

#include "kernels/cpu/ranges.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/softmax.h"
#include "kernels/gradient.h"
#include "kernels/row/softmax.h"

namespace tutti {
namespace {

template <bool kLog>
void forward(std::string_view op, const Tensor& in, const Tensor& out, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::softmax(in, out, kLog, stream);
  }
  const int64_t n = in.size(-1);
  const int64_t rows = n == 0 ? 0 : in.numel() / n;
  dispatch_compute(in.dtype(), op, [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    T* to = out.data<T>();
    for_ranges(stream, rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        const auto lse = row::log_sum_exp(team, from + r * n, n);
        if constexpr (kLog)
          row::log_softmax(team, from + r * n, to + r * n, n, lse);
        else
          row::softmax(team, from + r * n, to + r * n, n, lse);
      }
    });
  });
}

template <bool kLog>
void backward(std::string_view op, const Tensor& dy, const Tensor& out, const Tensor& dx,
              const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::softmax_backward(dy, out, dx, kLog, stream);
  }
  const int64_t n = out.size(-1);
  const int64_t rows = n == 0 ? 0 : out.numel() / n;
  dispatch_compute(dy.dtype(), op, [&]<class T>(TypeTag<T>) {
    const T* d = dy.data<T>();
    const T* y = out.data<T>();
    T* to = dx.data<T>();
    for_ranges(stream, rows, rows_per_task(n), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        if constexpr (kLog)
          row::log_softmax_backward(team, d + r * n, y + r * n, to + r * n, n);
        else
          row::softmax_backward(team, d + r * n, y + r * n, to + r * n, n);
      }
    });
  });
}

template <bool kLog>
Var normalise(std::string_view op, Tape& tape, const Var& x) {
  require(x.value.dims() >= 1, "{}: x has no dims", op);
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  const Tensor out = Tensor::empty(in.shape(), in.dtype(), stream);
  forward<kLog>(op, in, out, stream);
  return tape.record(op, out, {x}, [=](const Tensor& dy, const Gradients& gradients) {
    const Tensor dx = reuse_or_empty(dy, stream);
    backward<kLog>(op, dy, out, dx, stream);
    gradients.add(0, dx);
  });
}

}  // namespace

Var softmax(Tape& tape, const Var& x) {
  return normalise<false>("softmax", tape, x);
}

Var log_softmax(Tape& tape, const Var& x) {
  return normalise<true>("log_softmax", tape, x);
}

}  // namespace tutti
