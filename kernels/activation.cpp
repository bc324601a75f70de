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

Var swiglu(Tape& tape, const Var& x) {
  require(x.value.dims() >= 1 && x.value.size(-1) % 2 == 0,
          "swiglu: the last dim of {} must be even: gate and up", to_string(x.shape()));
  const Stream& stream = tape.stream();
  const Tensor in = x.value.to_contiguous(stream);
  Shape shape = in.shape();
  const int64_t h = shape.back() /= 2;
  const int64_t rows = h == 0 ? 0 : numel(shape) / h;
  const Tensor out = Tensor::empty(shape, in.dtype(), stream);
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
  return tape.record("swiglu", out, {x}, [stream, in, h, rows](const Tensor& dy, const Gradients& gradients) {
    const Tensor dx = Tensor::empty(in.shape(), in.dtype(), stream);
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
    gradients.add(0, dx);
  });
}

}  // namespace tutti
