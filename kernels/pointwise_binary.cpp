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

/// out = dy times the derivative with respect to operand `which` (0 or 1); dy is in[0], the operands are
/// in[1] and in[2].
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

/// Adds the gradient of operand `i` to `gradients`, summed to the operand's shape if it was broadcast. With
/// `last`, dy is not read again: if there is no other reference to it, its memory is overwritten.
template <class Op>
void operand_gradient(const Gradients& gradients, size_t i, const Tensor& dy,
                      const std::array<Tensor, 2>& operands, bool last, const Stream& stream, Op op) {
  const Tensor full = last ? reuse_or_empty(dy, stream) : Tensor::empty(dy.shape(), dy.dtype(), stream);
  backward({dy, operands[0], operands[1]}, static_cast<int>(i), full, op, stream);
  const Shape& shape = operands[i].shape();
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
          // A derivative of 1 or -1.
          const auto pass = [&](size_t i, const Shape& shape, double factor) {
            if (!gradients.needs(i)) return;
            Tensor full = dy;
            if (factor != 1) {
              full = Tensor::empty(dy.shape(), dy.dtype(), stream);
              detail::map_forward(name, dy, full, row::Neg{}, stream);
            }
            if (shape == dy.shape()) return gradients.add(i, full);
            const auto [destination, mode] = gradients.slot(i);
            sum_to(full, destination, mode, stream);
          };
          pass(1, y_shape, op.second(1.0, 1.0));
          pass(0, x_shape, op.first(1.0, 1.0));
        } else {
          const std::array<Tensor, 2> operands{x_saved, y_saved};
          const bool first = gradients.needs(0);
          if (gradients.needs(1)) operand_gradient(gradients, 1, dy, operands, !first, stream, op);
          if (first) operand_gradient(gradients, 0, dy, operands, true, stream, op);
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

}  // namespace tutti
