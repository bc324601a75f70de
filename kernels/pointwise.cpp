#include <tutti/kernels/pointwise.h>

#include <tutti/kernels/reduce.h>
#include "kernels/cpu/broadcast.h"
#include "kernels/map.h"

namespace tutti {
namespace {

template <class Op>
void forward(std::string_view name, const Tensor& x, const Tensor& y, const Tensor& out, Op op,
             const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::binary(x, y, out, op, stream);
  }
  dispatch_compute(x.dtype(), name, [&]<class T>(TypeTag<T>) {
    broadcast_apply<T, 2>({x, y}, out, stream, [op](auto p, auto q) { return op.value(p, q); });
  });
}

/// out = dy times the derivative to operand `which` of in[1] and in[2], where dy is in[0].
template <class Op>
void backward(const std::array<Tensor, 3>& in, int which, const Tensor& out, Op op, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::binary_backward(in[0], {in[1], in[2]}, which, out, op, stream);
  }
  dispatch_compute(out.dtype(), "backward", [&]<class T>(TypeTag<T>) {
    if (which == 0)
      broadcast_apply<T, 3>(in, out, stream, [op](auto d, auto p, auto q) { return d * op.first(p, q); });
    else
      broadcast_apply<T, 3>(in, out, stream, [op](auto d, auto p, auto q) { return d * op.second(p, q); });
  });
}

/// Gives `gradients` that of operand `i`, summed to the operand's shape if it was broadcast. dy is in[0], the
/// operands are the others.
template <class Op>
void operand_gradient(const Gradients& gradients, size_t i, const std::array<Tensor, 3>& in,
                      const Shape& shape, bool reuse, const Stream& stream, Op op) {
  const Tensor& dy = in[0];
  const Tensor full = reuse ? reuse_or_empty(dy, stream) : Tensor::empty(dy.shape(), dy.dtype(), stream);
  backward(in, static_cast<int>(i), full, op, stream);
  if (shape == dy.shape()) {
    gradients.add(i, full);
    return;
  }
  const auto [destination, mode] = gradients.slot(i);
  sum_to(full, destination, mode, stream);
}

template <row::Listed<row::BinaryOps> Op>
Var binary(Tape& tape, std::string_view name, const Var& a, const Var& b, Op op) {
  require(a.dtype() == b.dtype(), "{}: operands are {} and {}", name, tutti::name(a.dtype()),
          tutti::name(b.dtype()));
  const Stream& stream = tape.stream();
  const Tensor x = a.value.to_contiguous(stream);
  const Tensor y = b.value.to_contiguous(stream);
  const Tensor out = Tensor::empty(broadcast_shape(name, x.shape(), y.shape()), x.dtype(), stream);
  forward(name, x, y, out, op, stream);
  // A linear operation saves nothing; the others save both operands.
  const Tensor x_saved = Op::kLinear ? Tensor() : x;
  const Tensor y_saved = Op::kLinear ? Tensor() : y;
  return tape.record(
      name, out, {a, b},
      [=, x_shape = x.shape(), y_shape = y.shape()](const Tensor& dy, const Gradients& gradients) {
        if constexpr (Op::kLinear) {
          const auto pass = [&](size_t i, const Shape& shape, double factor) {
            if (!gradients.needs(i)) return;
            if (shape == dy.shape()) {
              if (factor == 1) return gradients.add(i, dy);
              const Tensor scaled = Tensor::empty(dy.shape(), dy.dtype(), stream);
              detail::map_forward(name, dy, scaled, row::Neg{}, stream);
              return gradients.add(i, scaled);
            }
            if (factor == 1) {
              const auto [destination, mode] = gradients.slot(i);
              return sum_to(dy, destination, mode, stream);
            }
            // Linear: any operands will do for the derivative.
            operand_gradient(gradients, i, {dy, dy, dy}, shape, false, stream, op);
          };
          pass(1, y_shape, op.second(1.0, 1.0));
          pass(0, x_shape, op.first(1.0, 1.0));
        } else {
          const std::array<Tensor, 3> in = {dy, x_saved, y_saved};
          if (gradients.needs(1)) {
            operand_gradient(gradients, 1, in, y_shape, !gradients.needs(0), stream, op);
          }
          if (gradients.needs(0)) {
            operand_gradient(gradients, 0, in, x_shape, true, stream, op);
          }
        }
      });
}

}  // namespace

Var add(Tape& tape, const Var& a, const Var& b) {
  return binary(tape, "add", a, b, row::Add{});
}
Var sub(Tape& tape, const Var& a, const Var& b) {
  return binary(tape, "sub", a, b, row::Sub{});
}
Var mul(Tape& tape, const Var& a, const Var& b) {
  return binary(tape, "mul", a, b, row::Mul{});
}
Var div(Tape& tape, const Var& a, const Var& b) {
  return binary(tape, "div", a, b, row::Div{});
}

Var neg(Tape& tape, const Var& x) {
  return map(tape, "neg", x, row::Neg{});
}
Var exp(Tape& tape, const Var& x) {
  return map(tape, "exp", x, row::Exp{});
}
Var log(Tape& tape, const Var& x) {
  return map(tape, "log", x, row::Log{});
}
Var sqrt(Tape& tape, const Var& x) {
  return map(tape, "sqrt", x, row::Sqrt{});
}
Var square(Tape& tape, const Var& x) {
  return map(tape, "square", x, row::Square{});
}
Var scale(Tape& tape, const Var& x, double factor) {
  return map(tape, "scale", x, row::Scale{factor});
}
Var add_scalar(Tape& tape, const Var& x, double constant) {
  return map(tape, "add_scalar", x, row::AddScalar{constant});
}

}  // namespace tutti
