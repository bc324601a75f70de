// Matrix products without a library: the reference in tests, and the fallback in builds without a library.
#include "kernels/cpu/blas_backends.h"
#include "kernels/cpu/isa.h"

#include <vector>

namespace tutti::cpu {
namespace {

template <class T, class C>
void product(const Gemm& g) {
  using A = Accumulate<T>;
  const auto* const a = static_cast<const T*>(g.a.data);
  const auto* const b = static_cast<const T*>(g.b.data);
  auto* const c = static_cast<C*>(g.c);
  const int64_t a_row = g.a.transposed ? 1 : g.a.ld;
  const int64_t a_column = g.a.transposed ? g.a.ld : 1;
  std::vector<A> row_sums(static_cast<size_t>(g.n));
  A* const sums = row_sums.data();
  run_best_isa([&] {
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) sums[j] = A(0);
      if (g.b.transposed) {
        for (int64_t j = 0; j < g.n; ++j) {
          A sum = 0;
          for (int64_t p = 0; p < g.k; ++p) {
            sum += static_cast<A>(a[i * a_row + p * a_column]) * static_cast<A>(b[j * g.b.ld + p]);
          }
          sums[j] = sum;
        }
      } else {
        for (int64_t p = 0; p < g.k; ++p) {
          const auto x = static_cast<A>(a[i * a_row + p * a_column]);
          for (int64_t j = 0; j < g.n; ++j) sums[j] += x * static_cast<A>(b[p * g.b.ld + j]);
        }
      }
      C* const out = c + i * g.ldc;
      if (g.accumulate) {
        for (int64_t j = 0; j < g.n; ++j) out[j] = C(static_cast<A>(out[j]) + sums[j]);
      } else {
        for (int64_t j = 0; j < g.n; ++j) out[j] = C(sums[j]);
      }
    }
  });
}

}  // namespace

void own_gemm(const Gemm& g) {
  if (g.dtype == DType::kFloat32 && g.c_dtype == DType::kFloat32) return product<float, float>(g);
  if (g.dtype == DType::kFloat64 && g.c_dtype == DType::kFloat64) return product<double, double>(g);
  if (g.dtype == DType::kBFloat16 && g.c_dtype == DType::kBFloat16) return product<BFloat16, BFloat16>(g);
  if (g.dtype == DType::kBFloat16 && g.c_dtype == DType::kFloat32) return product<BFloat16, float>(g);
  fail("gemm: unsupported dtypes: {} operands and {} result", tutti::name(g.dtype), tutti::name(g.c_dtype));
}

}  // namespace tutti::cpu
