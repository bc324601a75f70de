// OpenBLAS, used if oneDNN is not in the build: fp32 and fp64.
#include "kernels/cpu/blas_backends.h"

#if defined(TUTTI_WITH_OPENBLAS)

#  include <cblas.h>

#  include <algorithm>
#  include <limits>

namespace tutti::cpu {
namespace {

void use_one_thread() {
  static const bool once = (openblas_set_num_threads(1), true);
  (void)once;
}

CBLAS_TRANSPOSE operation(const MatrixOperand& m) {
  return m.transposed ? CblasTrans : CblasNoTrans;
}

}  // namespace

bool openblas_gemm(const Gemm& g) {
  constexpr int64_t kMost = std::numeric_limits<blasint>::max();
  if (std::max({g.m, g.n, g.k, g.a.ld, g.b.ld, g.ldc}) > kMost) return false;
  use_one_thread();
  const auto as = [](int64_t n) { return static_cast<blasint>(n); };
  if (g.dtype == DType::kFloat32 && g.c_dtype == DType::kFloat32) {
    cblas_sgemm(CblasRowMajor, operation(g.a), operation(g.b), as(g.m), as(g.n), as(g.k), 1.0F,
                static_cast<const float*>(g.a.data), as(g.a.ld), static_cast<const float*>(g.b.data),
                as(g.b.ld), g.accumulate ? 1.0F : 0.0F, static_cast<float*>(g.c), as(g.ldc));
    return true;
  }
  if (g.dtype == DType::kFloat64 && g.c_dtype == DType::kFloat64) {
    cblas_dgemm(CblasRowMajor, operation(g.a), operation(g.b), as(g.m), as(g.n), as(g.k), 1.0,
                static_cast<const double*>(g.a.data), as(g.a.ld), static_cast<const double*>(g.b.data),
                as(g.b.ld), g.accumulate ? 1.0 : 0.0, static_cast<double*>(g.c), as(g.ldc));
    return true;
  }
  return false;
}

std::string openblas_version() {
  // "OpenBLAS 0.3.21 NO_LAPACKE DYNAMIC_ARCH ...": the first two words.
  const std::string text = openblas_get_config();
  return text.substr(0, text.find(' ', text.find(' ') + 1));
}

}  // namespace tutti::cpu

#else

namespace tutti::cpu {
bool openblas_gemm(const Gemm&) {
  return false;
}
std::string openblas_version() {
  return {};
}
}  // namespace tutti::cpu

#endif
