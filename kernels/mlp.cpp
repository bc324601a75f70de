#include <tutti/kernels/mlp.h>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/gemm.h"
#include "kernels/linear_parts.h"

namespace tutti {
namespace {

/// d = (dy W2) times the derivative of the activation between the layers.
void hidden_gradient(const LinearSaved& down, const ProductOperand& dy, Activation activation,
                     const Tensor& derived, const Tensor& d, const Stream& stream) {
  Gemm product = down.input_gradient(dy);
  product.c = d.raw();
  product.ldc = product.n;
  product.c_dtype = d.dtype();
  if constexpr (kWithCuda) {
    if (on_cuda(stream) && cuda::try_activation_gradient(product, activation, derived, stream)) return;
  }
  gemm(product, stream);
  if (activation != Activation::kNone) activation_backward(d, derived, d, activation, stream);
}

/// Whether the activation between the layers is applied in the pass that rounds the second layer's operand to
/// fp8.
bool defers_activation(const Tape& tape, const LinearInput& x, const MlpWeights& weights,
                       Activation activation, const Fp8Ranges& ranges) {
  const int64_t elements = numel(x.shape);
  if (activation == Activation::kNone || x.shape.empty() || elements == 0) return false;
  for (const Var& w : {weights.w1, weights.w2}) {
    if (!w.value.defined() || w.value.dims() != 2) return false;
  }
  return ranges.defined() && Fp8Pass::fuses(tape, {elements / x.shape.back(), weights.w1.value.size(0),
                                                   weights.w2.value.size(0)});
}

/// Whether its derivative is applied in the pass that rounds the gradient of the first layer.
bool defers_derivative(const Tape& tape, const LinearSaved& up, const MlpWeights& weights,
                       const Fp8Ranges& ranges) {
  return ranges.defined() && Fp8Pass::fuses(tape, {up.rows, weights.w1.value.size(1), up.outputs});
}

}  // namespace

Var record_mlp(Tape& tape, const LinearInput& x, const MlpWeights& weights, Activation activation,
               const Fp8MlpRanges& ranges) {
  const Stream& stream = tape.stream();
  const auto& [w1, b1, w2, b2] = weights;
  const bool defers = defers_activation(tape, x, weights, activation, ranges.down);
  const LinearResult up =
      linear_forward("mlp", tape, x, w1, b1, defers ? Activation::kNone : activation, ranges.up);
  LinearInput between = LinearInput::of("mlp", Var(up.y), stream);
  if (defers) between.source = Activated{up.y.view({up.saved.rows, up.saved.outputs}), activation};
  const LinearResult down = linear_forward("mlp", tape, between, w2, b2, Activation::kNone, ranges.down);
  // The derivative of ReLU is the same function of its input and of its output.
  const Tensor derived = defers ? up.y : up.saved.derived;
  const bool derives_later = defers && defers_derivative(tape, up.saved, weights, ranges.up);

  // Two nodes, so that the gradients of the second layer's parameters are complete, and can be reduced,
  // before backward of the first layer. The gradient between the nodes is that of the activation's input, or
  // of its output if the first layer applies the derivative.
  const Var hidden = tape.record("mlp", up.y, {x.place(), w1, b1, ranges.up.x, ranges.up.w, ranges.up.dy},
                                 [up = up.saved, derived = derives_later ? derived : Tensor(), activation,
                                  stream](const Tensor& given, const Gradients& gradients) {
                                   OperandSource d = up.matrix(given);
                                   if (derived.defined())
                                     d = ActivationGradient{up.matrix(given), up.matrix(derived), activation};
                                   const ProductOperand operand =
                                       up.parameter_gradients(d, gradients, stream);
                                   if (gradients.needs(0))
                                     gemm_gradient(gradients, 0, up.input_gradient(operand), stream);
                                 });
  return tape.record(
      "mlp", down.y, {hidden, w2, b2, ranges.down.x, ranges.down.w, ranges.down.dy},
      [down = down.saved, activation = derives_later ? Activation::kNone : activation, derived, stream](
          const Tensor& dy, const Gradients& gradients) {
        const ProductOperand operand = down.parameter_gradients(down.matrix(dy), gradients, stream);
        // This is the only gradient of the node between the layers: its slot is overwritten.
        if (gradients.needs(0))
          hidden_gradient(down, operand, activation, derived, gradients.slot(0).tensor, stream);
      });
}

Var mlp(Tape& tape, const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
        Activation activation) {
  return record_mlp(tape, LinearInput::of("mlp", x, tape.stream()), {w1, b1, w2, b2}, activation, {});
}

}  // namespace tutti
