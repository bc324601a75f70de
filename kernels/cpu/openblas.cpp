// OpenBLAS, where oneDNN is absent. bf16 operands are widened to fp32 first.
#include <tutti/kernels/cpu/blas_backends.h>

#if defined(TUTTI_WITH_OPENBLAS)

#  include <cblas.h>

#  include <limits>
#  include <vector>

namespace tutti::cpu {
namespace {

void use_one_thread() {
  static const bool once = (openblas_set_num_threads(1), true);
  (void)once;
}

/// A row-major fp32 copy (rows x columns as stored) of a bf16 matrix.
std::vector<float> widen(const Matrix& m, int64_t rows, int64_t columns) {
  const int64_t stored_rows = m.transposed ? columns : rows;
  const int64_t stored_columns = m.transposed ? rows : columns;
  std::vector<float> copy(static_cast<size_t>(stored_rows * stored_columns));
  const auto* const source = static_cast<const BFloat16*>(m.data);
  for (int64_t i = 0; i < stored_rows; ++i) {
    for (int64_t j = 0; j < stored_columns; ++j)
      copy[static_cast<size_t>(i * stored_columns + j)] = source[i * m.ld + j];
  }
  return copy;
}

CBLAS_TRANSPOSE operation(const Matrix& m) {
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
  if (g.dtype != DType::kBFloat16) return false;
  const std::vector<float> a = widen(g.a, g.m, g.k);
  const std::vector<float> b = widen(g.b, g.k, g.n);
  Gemm wide = g;
  wide.dtype = DType::kFloat32;
  wide.a = {a.data(), g.a.transposed ? g.m : g.k, g.a.transposed};
  wide.b = {b.data(), g.b.transposed ? g.k : g.n, g.b.transposed};
  if (g.c_dtype == DType::kFloat32) return openblas_gemm(wide);
  std::vector<float> c(static_cast<size_t>(g.m * g.n));
  wide.c = c.data();
  wide.ldc = g.n;
  wide.c_dtype = DType::kFloat32;
  wide.accumulate = false;
  if (!openblas_gemm(wide)) return false;
  auto* const out = static_cast<BFloat16*>(g.c);
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      BFloat16& y = out[i * g.ldc + j];
      y = BFloat16(c[static_cast<size_t>(i * g.n + j)] + (g.accumulate ? float(y) : 0.0F));
    }
  }
  return true;
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
