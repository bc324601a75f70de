#include <tutti/kernels/activation.h>
#include <tutti/kernels/cpu/map.h>

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

}  // namespace

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
