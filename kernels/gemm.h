#pragma once

#include <tutti/core/tape.h>
#include "kernels/plan/gemm.h"

namespace tutti {

/// Computes the product with the matrix library of the stream's device.
void gemm(const Gemm& product, const Stream& stream);

/// Writes or adds the product to the gradient of input `i`, directly into its slot where the library supports
/// it, as it does for fp32 slots of bf16 products: these gradients are never rounded to bf16. `product` is
/// passed without c; the gradient is (m, n), contiguous.
void gemm_gradient(const Gradients& gradients, size_t i, Gemm product, const Stream& stream);

}  // namespace tutti
