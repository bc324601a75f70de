#include <tutti/kernels/activation.h>

#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/shape.h>
#include "kernels/cpu/ranges.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/pointwise.h"
#include "kernels/gradient.h"
#include "kernels/row/pointwise.h"

namespace tutti {
namespace {

void swiglu_forward(const Tensor& in, const Tensor& out, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::swiglu(in, out, stream);
  }
  const int64_t h = out.size(-1);
  const int64_t rows = h == 0 ? 0 : out.numel() / h;
  dispatch_compute(in.dtype(), "swiglu", [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    T* to = out.data<T>();
    for_ranges(stream, rows, rows_per_task(h), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        row::swiglu(team, from + 2 * r * h, from + (2 * r + 1) * h, to + r * h, h);
      }
    });
  });
}

void swiglu_backward(const Tensor& dy, const Tensor& in, const Tensor& dx, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::swiglu_backward(dy, in, dx, stream);
  }
  const int64_t h = dy.size(-1);
  const int64_t rows = h == 0 ? 0 : dy.numel() / h;
  dispatch_compute(in.dtype(), "swiglu", [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    const T* d = dy.data<T>();
    T* to = dx.data<T>();
    for_ranges(stream, rows, rows_per_task(h), [=](int64_t begin, int64_t end) {
      SerialTeam team;
      for (int64_t r = begin; r < end; ++r) {
        const int64_t gate = 2 * r * h;
        row::swiglu_backward(team, d + r * h, from + gate, from + gate + h, to + gate, to + gate + h, h);
      }
    });
  });
}

/// Calls f(offset of gate | up, offset of the unit, its width) for each row of a tensor of units.
template <class F>
void for_gated_rows(const Tensor& unit, const Stream& stream, F f) {
  const int64_t h = unit.size(-1);
  const int64_t rows = h == 0 ? 0 : unit.numel() / h;
  for_ranges(stream, rows, rows_per_task(h), [=](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) f(2 * r * h, r * h, h);
  });
}

template <class Op>
Var gated_by(Tape& tape, const Var& x, Op op) {
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  Shape shape = in.shape();
  shape.back() /= 2;
  const Tensor out = Tensor::empty(shape, in.dtype(), stream);
  dispatch_compute(in.dtype(), "gated", [&]<class T>(TypeTag<T>) {
    const T* from = in.data<T>();
    T* to = out.data<T>();
    for_gated_rows(out, stream, [=](int64_t gate, int64_t unit, int64_t h) {
      SerialTeam team;
      row::gated(team, from + gate, from + gate + h, to + unit, h, op);
    });
  });
  return tape.record("gated", out, {x}, [stream, in, op](const Tensor& dy, const Gradients& gradients) {
    const Tensor dx = Tensor::empty(in.shape(), in.dtype(), stream);
    dispatch_compute(in.dtype(), "gated", [&]<class T>(TypeTag<T>) {
      const T* from = in.data<T>();
      const T* d = dy.data<T>();
      T* to = dx.data<T>();
      for_gated_rows(dy, stream, [=](int64_t gate, int64_t unit, int64_t h) {
        SerialTeam team;
        row::gated_backward(team, d + unit, from + gate, from + gate + h, to + gate, to + gate + h, h, op);
      });
    });
    gradients.add(0, dx);
  });
}

}  // namespace

Var gated(Tape& tape, const Var& x, Activation activation) {
  if (activation == Activation::kSilu) return swiglu(tape, x);
  require(activation == Activation::kGelu || activation == Activation::kGeluTanh,
          "gated: unsupported activation; expected silu, gelu or gelu_tanh");
  require(x.value.dims() >= 1 && x.value.size(-1) % 2 == 0,
          "gated: the last dim of {} must be even: gate and up", to_string(x.shape()));
  const bool exact = activation == Activation::kGelu;
  if constexpr (kWithCuda) {
    if (on_cuda(tape.stream())) {
      const int64_t h = x.value.size(-1) / 2;
      const Var gate = slice(tape, x, -1, 0, h);
      return mul(tape, gelu(tape, gate, exact ? GeluForm::kExact : GeluForm::kTanh),
                 slice(tape, x, -1, h, 2 * h));
    }
  }
  return exact ? gated_by(tape, x, row::Gelu{}) : gated_by(tape, x, row::GeluTanh{});
}

Var swiglu(Tape& tape, const Var& x) {
  require(x.value.dims() >= 1 && x.value.size(-1) % 2 == 0,
          "swiglu: the last dim of {} must be even: gate and up", to_string(x.shape()));
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  Shape shape = in.shape();
  shape.back() /= 2;
  const Tensor out = Tensor::empty(shape, in.dtype(), stream);
  swiglu_forward(in, out, stream);
  return tape.record("swiglu", out, {x}, [stream, in](const Tensor& dy, const Gradients& gradients) {
    const Tensor dx = Tensor::empty(in.shape(), in.dtype(), stream);
    swiglu_backward(dy, in, dx, stream);
    gradients.add(0, dx);
  });
}

}  // namespace tutti
