#include "kernels/cuda/linear.h"

#include "kernels/activation_functors.h"
#include "kernels/cuda/blas.h"
#include "kernels/cuda/pointwise.h"

namespace tutti::cuda {
namespace {

/// GELU in the epilogue of fp32 and fp64 products is not accurate enough, and its leading dim must be a
/// multiple of 8 (CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD).
bool gelu_fits(const Gemm& product, Activation activation) {
  return activation == Activation::kGeluTanh && product.c_dtype == DType::kBFloat16 && product.ldc % 8 == 0;
}

}  // namespace

void linear(const LinearForward& p, const Stream& stream) {
  const int64_t outputs = p.product.n;
  const bool has_bias = p.bias.defined();
  Gemm product = p.product;
  product.c = p.y.raw();
  product.ldc = outputs;
  product.c_dtype = p.y.dtype();
  if (product.m == 0 || outputs == 0) return;
  if (gelu_fits(product, p.activation) &&
      try_gemm(product,
               {.epilogue = has_bias ? GemmEpilogue::kBiasGeluTanh : GemmEpilogue::kGeluTanh,
                .bias = p.bias.raw(),
                .kept = p.before.raw()},
               stream)) {
    return;
  }
  product.c = p.before.raw();
  const bool added =
      has_bias && product.dtype != DType::kFloat64 &&
      try_gemm(product, {.epilogue = GemmEpilogue::kBias, .bias = p.bias.raw(), .kept = nullptr}, stream);
  if (!added) {
    cuda::gemm(product, stream);
    if (has_bias) binary(p.before, p.bias, p.before, row::Add{}, stream);
  }
  with_activation(p.activation, [&](auto op) { map(p.before, p.y, op, stream); });
}

bool try_activation_gradient(const Gemm& product, Activation activation, const Tensor& kept,
                             const Stream& stream) {
  return gelu_fits(product, activation) &&
         try_gemm(product, {.epilogue = GemmEpilogue::kGeluTanhGradient, .bias = nullptr, .kept = kept.raw()},
                  stream);
}

}  // namespace tutti::cuda
