#pragma once

#include <tutti/core/tape.h>
#include <tutti/kernels/cpu/blas.h>

namespace tutti::cpu {

/// The product on the stream's device: gemm(), or the matrix library of a CUDA device.
void multiply(const Gemm& product, const Stream& stream);

/// Writes or adds the product to the gradient of input `i`, straight into its slot where the library can:
/// also fp32 slots of bf16 products, so that gradients are never rounded to bf16. `product` comes without c;
/// the gradient is (m, n), contiguous.
void gemm_gradient(const Gradients& gradients, size_t i, Gemm product, const Stream& stream);

}  // namespace tutti::cpu
