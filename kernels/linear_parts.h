#pragma once

#include <tutti/kernels/linear_cross_entropy.h>
#include "kernels/fp8/pass.h"

#include <string_view>

// Parts of linear(), mlp() and linear_cross_entropy(), in the compute dtype and in fp8: without ranges, in
// the compute dtype.
namespace tutti {

/// x of a linear layer: values, or a source that the layer computes them from.
struct LinearInput {
  Shape shape;  ///< (..., inputs)
  DType dtype = DType::kFloat32;
  OperandSource source;     ///< (rows, inputs)
  NodeId node = kConstant;  ///< the node that receives its gradient

  /// Throws Error, with `op` in the message, for an undefined x.
  static LinearInput of(std::string_view op, const Var& x, const Stream& stream);
  /// Its node without values, for tape.record().
  [[nodiscard]] Var place() const { return Var(Tensor(), node); }
};

struct DeferredNorm::Parts {
  LinearInput input;
};

/// The tensors that a linear layer saves for backward.
struct LinearSaved {
  ProductOperand x;  ///< (rows, inputs)
  ProductOperand w;  ///< (outputs, inputs)
  Fp8Pass fp8;
  Tensor derived;  ///< the argument of the activation's derivative; undefined for kNone
  Activation activation = Activation::kNone;
  int64_t rows = 0, outputs = 0;

  /// Writes or adds the gradients of w, bias and the ranges, inputs 1, 2 and 3 to 5; `d` (rows, outputs) is
  /// the gradient of the activation's input. Returns it as an operand, for input_gradient.
  ProductOperand parameter_gradients(const OperandSource& d, const Gradients& gradients,
                                     const Stream& stream) const;
  /// A contiguous tensor (..., outputs) as a matrix.
  [[nodiscard]] Tensor matrix(const Tensor& d) const { return d.view({rows, outputs}); }
  /// d W without its destination: the gradient of x.
  [[nodiscard]] Gemm input_gradient(const ProductOperand& d) const { return product(d, false, w, false); }
};

struct LinearResult {
  Tensor y;
  LinearSaved saved;
};
/// activation(x W^T + bias); throws what linear() throws, with `op` in the message.
LinearResult linear_forward(std::string_view op, const Tape& tape, const LinearInput& x, const Var& w,
                            const Var& bias, Activation activation, const Fp8Ranges& ranges);

/// The ops; in the compute dtype if the ranges are undefined.
Var record_linear(Tape& tape, const LinearInput& x, const Var& w, const Var& bias, Activation activation,
                  const Fp8Ranges& ranges);
struct MlpWeights {
  Var w1, b1, w2, b2;
};
Var record_mlp(Tape& tape, const LinearInput& x, const MlpWeights& weights, Activation activation,
               const Fp8MlpRanges& ranges);
Var record_linear_cross_entropy(Tape& tape, const Var& x, const Var& w, const Tensor& targets,
                                const LinearCrossEntropyOptions& options, const Fp8Ranges& ranges);

/// dx = dy times the derivative of an activation other than kNone; `derived` is that of LinearSaved. dx may
/// be dy.
void activation_backward(const Tensor& dy, const Tensor& derived, const Tensor& dx, Activation activation,
                         const Stream& stream);

}  // namespace tutti
