#include "kernels/gemm.h"

#include "kernels/cpu/blas.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/on_cuda.h"
#include "kernels/sums.h"

namespace tutti {

void gemm(const Gemm& product, const Stream& stream) {
  if constexpr (kWithCuda) {
    if (on_cuda(stream)) return cuda::gemm(product, stream);
  }
  cpu::gemm(product, stream);
}

void gemm_gradient(const Gradients& gradients, size_t i, Gemm product, const Stream& stream) {
  const auto [slot, mode] = gradients.slot(i);
  const bool direct =
      slot.contiguous() && (slot.dtype() == product.dtype ||
                            (product.dtype == DType::kBFloat16 && slot.dtype() == DType::kFloat32));
  const Tensor destination = direct ? slot : Tensor::empty({product.m, product.n}, product.dtype, stream);
  product.c = destination.raw();
  product.ldc = product.n;
  product.c_dtype = destination.dtype();
  product.accumulate = direct && mode == GradMode::kAccumulate;
  gemm(product, stream);
  if (!direct) store(destination.view(slot.shape()), slot, mode, stream);
}

}  // namespace tutti
