#pragma once

#include <tutti/core/tensor.h>
#include "kernels/plan/gemm.h"

#include <compare>
#include <cstdint>
#include <string>

// Descriptions of matrix products for cuBLASLt. Needs no CUDA, so that it can be tested without it.
namespace tutti {

/// Operations that cuBLASLt applies to a product before it writes the result.
enum class GemmEpilogue : uint8_t {
  kNone,
  kBias,              ///< adds a bias to each row
  kGeluTanh,          ///< applies GELU and also writes its input
  kBiasGeluTanh,      ///< both
  kGeluTanhGradient,  ///< multiplies by GELU's derivative at the input that kGeluTanh wrote
};

/// Products of one shape: the distance, in elements, of each operand from that of the previous product. A
/// stride of 0 repeats an operand.
struct GemmBatch {
  int64_t count = 1;
  int64_t a = 0, b = 0, c = 0;
};

/// Operands of an epilogue: bias (n) of c's dtype; `kept`, GELU's input, has c's shape, dtype and leading
/// dim.
struct GemmFusion {
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  const void* bias = nullptr;
  void* kept = nullptr;
};

/// A product C' (m, n) = op(A') (m, k) op(B') (k, n) of column-major matrices, with all properties that the
/// choice of an algorithm depends on.
struct GemmProblem {
  int64_t m = 0, n = 0, k = 0;
  int64_t lda = 0, ldb = 0, ldc = 0;
  int64_t batch = 1, stride_a = 0, stride_b = 0, stride_c = 0;
  bool transpose_a = false, transpose_b = false;
  bool accumulate = false;
  DType dtype = DType::kFloat32, c_dtype = DType::kFloat32;
  Fp8Format fp8_a = Fp8Format::kNone, fp8_b = Fp8Format::kNone;  ///< in place of dtype
  bool fast_sums = false;                                        ///< fp8: Fp8Factors::fast
  GemmEpilogue epilogue = GemmEpilogue::kNone;
  int32_t alignment = 16;  ///< common alignment of all addresses in bytes, at most 16

  auto operator<=>(const GemmProblem&) const = default;

  /// A key for files; different problems have different keys.
  [[nodiscard]] std::string key() const;
  /// Multiplications and additions.
  [[nodiscard]] double flops() const {
    return 2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k) *
           static_cast<double>(batch);
  }
};

/// The column-major problem of a row-major product: C^T = B^T A^T, so that A and B are swapped.
GemmProblem column_major(const Gemm& gemm, const GemmBatch& batch = {}, const GemmFusion& fusion = {});

/// The split of a batched product with broadcasting batch dims into `outer` GemmBatches of `inner` products
/// each: trailing batch dims are inside a GemmBatch, leading ones outside.
struct BatchSplit {
  int64_t outer = 1;
  int64_t inner = 1;
  bool a_repeats = false;  ///< within the inner part, operand a is the same
  bool b_repeats = false;
};
/// The split with the most trailing dims of `batch` in the inner part for which each operand has one stride.
/// `a` and `b` are the operands' batch dims, which broadcast to `batch`.
BatchSplit split_batch(const Shape& a, const Shape& b, const Shape& batch);

}  // namespace tutti
