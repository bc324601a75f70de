#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/cpu/blas.h>
#include <tutti/kernels/linear.h>

#include <string_view>

// What linear() and mlp() are put together from.
namespace tutti {

/// What a linear layer keeps for backward.
struct LinearSaved {
  Tensor x;        ///< (..., inputs), contiguous
  Tensor w;        ///< (outputs, inputs), contiguous
  Tensor derived;  ///< what the activation's derivative is a function of; undefined for kNone
  Activation activation = Activation::kNone;
  int64_t rows = 0, inputs = 0, outputs = 0;

  /// Writes or adds the gradients of w and bias, inputs 1 and 2; `d` is that of what goes into the
  /// activation.
  void parameter_gradients(const Tensor& d, const Gradients& gradients, const Stream& stream) const;
  /// d W without its destination: the gradient of x.
  [[nodiscard]] cpu::Gemm input_gradient(const Tensor& d) const;
};

struct LinearResult {
  Tensor y;
  LinearSaved saved;
};
/// activation(x W^T + bias); throws what linear() throws, with `op` in front.
LinearResult linear_forward(std::string_view op, const Var& x, const Var& w, const Var& bias,
                            Activation activation, const Stream& stream);

/// dx = dy times the derivative of an activation other than kNone; `derived` as in LinearSaved, dx may be dy.
void activation_backward(const Tensor& dy, const Tensor& derived, const Tensor& dx, Activation activation,
                         const Stream& stream);

}  // namespace tutti
