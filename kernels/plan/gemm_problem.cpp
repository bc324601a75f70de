#include "kernels/plan/gemm_problem.h"

#include <algorithm>
#include <initializer_list>

namespace tutti {
namespace {

/// The largest power of two up to 16 that divides all addresses; null is divisible by all.
int32_t common_alignment(std::initializer_list<const void*> addresses) {
  uintptr_t bits = 16;
  for (const void* address : addresses) bits |= reinterpret_cast<uintptr_t>(address);
  return static_cast<int32_t>(bits & (~bits + 1));
}

std::string_view epilogue_name(GemmEpilogue epilogue) {
  switch (epilogue) {
    case GemmEpilogue::kNone:
      return "none";
    case GemmEpilogue::kBias:
      return "bias";
    case GemmEpilogue::kGeluTanh:
      return "gelu";
    case GemmEpilogue::kBiasGeluTanh:
      return "bias+gelu";
    case GemmEpilogue::kGeluTanhGradient:
      return "dgelu";
  }
  return "";
}

/// An operand's size in a broadcast dim; shapes are aligned at the last dim.
int64_t size_in(const Shape& own, size_t dims, size_t d) {
  const size_t missing = dims - own.size();
  return d < missing ? 1 : own[d - missing];
}

}  // namespace

std::string GemmProblem::key() const {
  const std::string operands =
      fp8_a == Fp8Format::kNone
          ? std::string(tutti::name(dtype))
          : fmt::format("{}*{}{}", tutti::name(fp8_a), tutti::name(fp8_b), fast_sums ? "~" : "");
  return fmt::format("{}{}:{}>{}:{}x{}x{}:ld{},{},{}:batch{}+{},{},{}:{}:{}:align{}", transpose_a ? 't' : 'n',
                     transpose_b ? 't' : 'n', operands, tutti::name(c_dtype), m, n, k, lda, ldb, ldc, batch,
                     stride_a, stride_b, stride_c, epilogue_name(epilogue), accumulate ? "add" : "set",
                     alignment);
}

GemmProblem column_major(const Gemm& gemm, const GemmBatch& batch, const GemmFusion& fusion) {
  return {.m = gemm.n,
          .n = gemm.m,
          .k = gemm.k,
          .lda = gemm.b.ld,
          .ldb = gemm.a.ld,
          .ldc = gemm.ldc,
          .batch = batch.count,
          .stride_a = batch.b,
          .stride_b = batch.a,
          .stride_c = batch.c,
          .transpose_a = gemm.b.transposed,
          .transpose_b = gemm.a.transposed,
          .accumulate = gemm.accumulate,
          .dtype = gemm.dtype,
          .c_dtype = gemm.c_dtype,
          .fp8_a = gemm.fp8.b,
          .fp8_b = gemm.fp8.a,
          .fast_sums = gemm.fp8.fast,
          .epilogue = fusion.epilogue,
          .alignment = common_alignment({gemm.a.data, gemm.b.data, gemm.c, fusion.bias, fusion.kept})};
}

BatchSplit split_batch(const Shape& a, const Shape& b, const Shape& batch) {
  BatchSplit split;
  const size_t dims = batch.size();
  bool a_moves = false;
  bool b_moves = false;
  size_t d = dims;
  for (; d > 0; --d) {
    const int64_t size = batch[d - 1];
    if (size == 1) continue;
    const bool a_here = size_in(a, dims, d - 1) != 1;
    const bool b_here = size_in(b, dims, d - 1) != 1;
    // Whether an operand varies is that of the innermost dim whose size is not 1; outer dims must agree with
    // it.
    if (split.inner > 1 && (a_here != a_moves || b_here != b_moves)) break;
    a_moves = a_here;
    b_moves = b_here;
    split.inner *= size;
  }
  split.a_repeats = split.inner > 1 && !a_moves;
  split.b_repeats = split.inner > 1 && !b_moves;
  for (; d > 0; --d) split.outer *= batch[d - 1];
  return split;
}

}  // namespace tutti
