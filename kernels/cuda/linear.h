#pragma once

#include <tutti/kernels/linear.h>
#include "kernels/plan/gemm.h"

// linear (kernels/linear.h) on CUDA. Tensors are contiguous and on the stream's device.
namespace tutti::cuda {

struct LinearForward {
  Gemm product;   ///< x w^T (rows, outputs), without c
  Tensor bias;    ///< (outputs) or undefined
  Tensor before;  ///< (rows, outputs): the activation's input; y if it is not saved
  Tensor y;       ///< (rows, outputs)
  Activation activation;
};
/// Bias, and GPT-2's GELU in bf16, are applied in the product's epilogue; other activations and dtypes need a
/// pass each. Memory traffic of a pass: 2 rows outputs sizeof(T).
void linear(const LinearForward& p, const Stream& stream);

/// Computes `product` times the derivative of the activation at `kept`, LinearForward's `before`, in the
/// product's epilogue. Returns false and does nothing unless the activation is GPT-2's GELU, the dtype is
/// bf16 and cuBLASLt has an algorithm.
[[nodiscard]] bool try_activation_gradient(const Gemm& product, Activation activation, const Tensor& kept,
                                           const Stream& stream);

}  // namespace tutti::cuda
