#pragma once

#include <tutti/kernels/linear.h>
#include "kernels/plan/gemm.h"

// linear (kernels/linear.h) on CUDA. Tensors are contiguous and on the stream's device.
namespace tutti::cuda {

struct LinearForward {
  Gemm product;   ///< x w^T (rows, outputs), without c
  Tensor bias;    ///< (outputs) or undefined
  Tensor before;  ///< (rows, outputs): what goes into the activation; y where that is not kept
  Tensor y;       ///< (rows, outputs)
  Activation activation;
};
/// Bias, and GPT-2's GELU in bf16, are added while the product is written; other activations and dtypes take
/// a pass each. Bytes of such a pass: 2 rows outputs sizeof(T).
void linear(const LinearForward& p, const Stream& stream);

/// `product` times the derivative of an activation at `kept`, LinearForward's `before`, in the pass that
/// writes the product; false, with nothing done, for other than GPT-2's GELU in bf16 and where cuBLASLt
/// cannot do it.
[[nodiscard]] bool try_activation_gradient(const Gemm& product, Activation activation, const Tensor& kept,
                                           const Stream& stream);

}  // namespace tutti::cuda
