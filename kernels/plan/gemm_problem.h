#pragma once

#include <tutti/core/tensor.h>
#include "kernels/plan/gemm.h"

#include <compare>
#include <cstdint>
#include <string>

// Matrix products as cuBLASLt is told of them. No CUDA in here: tested without it.
namespace tutti {

/// What cuBLASLt does to a product's result before it is written.
enum class GemmEpilogue : uint8_t {
  kNone,
  kBias,              ///< adds a bias to each row
  kGeluTanh,          ///< keeps what goes into GELU beside its result
  kBiasGeluTanh,      ///< both
  kGeluTanhGradient,  ///< multiplies by GELU's derivative at what kGeluTanh kept
};

/// Equal products: each operand of the next one stands this many elements further on. A stride of 0 repeats
/// an operand.
struct GemmBatch {
  int64_t count = 1;
  int64_t a = 0, b = 0, c = 0;
};

/// Memory of an epilogue: bias (n) of c's dtype; kept like c, of c's dtype and leading dim.
struct GemmFusion {
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  const void* bias = nullptr;
  void* kept = nullptr;
};

/// A product C' (m, n) = op(A') (m, k) op(B') (k, n) of column-major matrices, and all that the choice of an
/// algorithm depends on.
struct GemmProblem {
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  DType dtype = DType::kFloat32, c_dtype = DType::kFloat32;
  Fp8Format fp8_a = Fp8Format::kNone, fp8_b = Fp8Format::kNone;  ///< in place of dtype
  bool fast_sums = false;                                        ///< fp8: not all of them in fp32
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  int32_t alignment = 16;  ///< bytes that all addresses are multiples of, 16 at most

  auto operator<=>(const GemmProblem&) const = default;

  /// A name for files; different problems have different names.
  [[nodiscard]] std::string key() const;
  /// 2 for each multiplication and addition.
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) *
           static_cast<double>(batch);
  }
};

/// The problem of a row-major product: C^T = B^T A^T in column-major terms, so that A and B change places.
GemmProblem column_major(const Gemm& gemm, const GemmBatch& batch = {}, const GemmFusion& fusion = {});

/// How a batched product with broadcasting batch dims is cut into GemmBatches of equal strides: `inner`
/// trailing batch indices make one, of which there is one for each of the `outer` leading ones.
struct BatchSplit {
  int64_t outer = 1;
  int64_t inner = 1;
  bool a_repeats = false;  ///< within the inner part, operand a is the same
  bool b_repeats = false;
};
/// Takes as many trailing dims of `batch` into the inner part as keep both operands at one stride; `a` and
/// `b` are their own batch dims, which broadcast to `batch`.
BatchSplit split_batch(const Shape& a, const Shape& b, const Shape& batch);

}  // namespace tutti
