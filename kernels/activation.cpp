#include <tutti/kernels/activation.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/shape.h>
#include "kernels/map.h"

namespace tutti {

Var relu(Tape& tape, const Var& x) {
  return map(tape, "relu", x, row::Relu{});
}

Var gelu(Tape& tape, const Var& x, GeluForm form) {
  if (form == GeluForm::kTanh) return map(tape, "gelu", x, row::GeluTanh{});
  return map(tape, "gelu", x, row::Gelu{});
}

Var silu(Tape& tape, const Var& x) {
  return map(tape, "silu", x, row::Silu{});
}

Var sigmoid(Tape& tape, const Var& x) {
  return map(tape, "sigmoid", x, row::Sigmoid{});
}

Var tanh(Tape& tape, const Var& x) {
  return map(tape, "tanh", x, row::Tanh{});
}

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

/// Calls f(row of gate | up, row of the unit, its width) for all rows of a tensor of units.
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
          "gated: this activation gates nothing");
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

Var soft_cap(Tape& tape, const Var& x, double cap) {
  require(cap > 0, "soft_cap: a cap of {}", cap);
  return map(tape, "soft_cap", x, row::SoftCap{cap});
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
