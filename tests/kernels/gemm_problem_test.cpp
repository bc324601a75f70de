// Descriptions of products for cuBLASLt, tested without cuBLASLt.
#include "kernels/plan/gemm_problem.h"
#include "kernels/cpu/blas.h"

#include "tests/kernels/gradcheck.h"

#include <array>
#include <set>

namespace tutti {
namespace {

using test::stream;

class GemmProblemTest : public test::RandomTest {};

/// Column-major C (m, n) = or += op(A) op(B), by its definition.
void reference_blas(const GemmProblem& p, const double* a, const double* b, double* c) {
  for (int64_t z = 0; z < p.batch; ++z) {
    for (int64_t j = 0; j < p.n; ++j) {
      for (int64_t i = 0; i < p.m; ++i) {
        double sum = 0;
        for (int64_t l = 0; l < p.k; ++l) {
          const double x = a[z * p.stride_a + (p.transpose_a ? i * p.lda + l : l * p.lda + i)];
          const double y = b[z * p.stride_b + (p.transpose_b ? l * p.ldb + j : j * p.ldb + l)];
          sum += x * y;
        }
        double& out = c[z * p.stride_c + j * p.ldc + i];
        out = p.accumulate ? out + sum : sum;
      }
    }
  }
}

TEST_F(GemmProblemTest, ColumnMajorIsTheSameProduct) {
  for (int round = 0; round < 40; ++round) {
    const int64_t m = random.integer(1, 9);
    const int64_t n = random.integer(1, 9);
    const int64_t k = random.integer(1, 9);
    const bool ta = random.integer(0, 1) == 1;
    const bool tb = random.integer(0, 1) == 1;
    const int64_t lda = (ta ? m : k) + random.integer(0, 3);
    const int64_t ldb = (tb ? k : n) + random.integer(0, 3);
    const int64_t ldc = n + random.integer(0, 3);
    const Tensor a = random.normal({ta ? k : m, lda});
    const Tensor b = random.normal({tb ? n : k, ldb});
    const Tensor expected = random.normal({m, ldc});
    const Tensor actual = expected.clone(stream());
    Gemm gemm{.m = m,
              .n = n,
              .k = k,
              .dtype = DType::kFloat64,
              .a = {a.raw(), lda, ta},
              .b = {b.raw(), ldb, tb},
              .c = expected.raw(),
              .ldc = ldc,
              .c_dtype = DType::kFloat64,
              .accumulate = random.integer(0, 1) == 1};
    cpu::gemm_tile(gemm);
    reference_blas(column_major(gemm), b.data<double>(), a.data<double>(), actual.data<double>());
    test::expect_close(actual, expected, 1e-12, 1e-12);
  }
}

TEST_F(GemmProblemTest, EveryFieldIsInTheKey) {
  const GemmProblem base{.m = 1, .n = 2, .k = 3, .lda = 4, .ldb = 5, .ldc = 6};
  std::vector<GemmProblem> all{base};
  const auto with = [&](auto change) {
    all.push_back(base);
    change(all.back());
  };
  for (int64_t GemmProblem::*field :
       {&GemmProblem::m, &GemmProblem::n, &GemmProblem::k, &GemmProblem::lda, &GemmProblem::ldb,
        &GemmProblem::ldc, &GemmProblem::batch, &GemmProblem::stride_a, &GemmProblem::stride_b,
        &GemmProblem::stride_c}) {
    with([&](GemmProblem& p) { p.*field = 77; });
  }
  for (bool GemmProblem::*field :
       {&GemmProblem::transpose_a, &GemmProblem::transpose_b, &GemmProblem::accumulate}) {
    with([&](GemmProblem& p) { p.*field = true; });
  }
  with([](GemmProblem& p) { p.dtype = DType::kBFloat16; });
  with([](GemmProblem& p) { p.c_dtype = DType::kBFloat16; });
  with([](GemmProblem& p) { p.alignment = 4; });
  for (const Fp8Format a : {Fp8Format::kE4M3, Fp8Format::kE5M2}) {
    for (const Fp8Format b : {Fp8Format::kE4M3, Fp8Format::kE5M2}) {
      for (const bool fast : {false, true})
        with([&](GemmProblem& p) { p.fp8_a = a, p.fp8_b = b, p.fast_sums = fast; });
    }
  }
  for (const GemmEpilogue epilogue : {GemmEpilogue::kBias, GemmEpilogue::kGeluTanh,
                                      GemmEpilogue::kBiasGeluTanh, GemmEpilogue::kGeluTanhGradient}) {
    with([&](GemmProblem& p) { p.epilogue = epilogue; });
  }
  std::set<std::string> keys;
  for (const GemmProblem& p : all) EXPECT_TRUE(keys.insert(p.key()).second) << p.key();
}

TEST_F(GemmProblemTest, AlignmentIsThatOfTheLeastAlignedAddress) {
  alignas(16) std::array<std::byte, 64> memory{};
  const auto at = [&](size_t offset) -> std::byte* { return memory.data() + offset; };
  const auto alignment = [&](size_t a, size_t b, size_t c, size_t bias) {
    return column_major({.a = {at(a), 1}, .b = {at(b), 1}, .c = at(c)}, {},
                        {.epilogue = GemmEpilogue::kBias, .bias = at(bias), .kept = nullptr})
        .alignment;
  };
  EXPECT_EQ(alignment(0, 16, 32, 48), 16);
  EXPECT_EQ(alignment(0, 8, 32, 48), 8);
  EXPECT_EQ(alignment(0, 8, 32, 4), 4);
  EXPECT_EQ(alignment(0, 8, 2, 4), 2);
  EXPECT_EQ(alignment(1, 8, 2, 4), 1);
}

TEST_F(GemmProblemTest, KeptInputOfGeluHasTheLayoutOfItsGradient) {
  // The gradient between two layers: dy (rows, outputs) times W (outputs, hidden), in rows of `hidden`.
  const int64_t rows = random.integer(1, 9);
  const int64_t hidden = 8 * random.integer(1, 3);
  const int64_t outputs = random.integer(1, 9);
  const Tensor dy = random.normal({rows, outputs}, 1, DType::kBFloat16);
  const Tensor w = random.normal({outputs, hidden}, 1, DType::kBFloat16);
  const Tensor kept = random.normal({rows, hidden}, 1, DType::kBFloat16);
  const Tensor d = random.normal({rows, hidden}, 1, DType::kBFloat16);
  const auto problem = [&](int64_t offset) {
    return column_major({.m = rows,
                         .n = hidden,
                         .k = outputs,
                         .dtype = DType::kBFloat16,
                         .a = {dy.raw(), outputs},
                         .b = {w.raw(), hidden},
                         .c = d.raw(),
                         .ldc = hidden,
                         .c_dtype = DType::kBFloat16},
                        {},
                        {.epilogue = GemmEpilogue::kGeluTanhGradient,
                         .bias = nullptr,
                         .kept = kept.data<BFloat16>() + offset});
  };
  const GemmProblem p = problem(0);
  EXPECT_EQ(p.epilogue, GemmEpilogue::kGeluTanhGradient);
  EXPECT_EQ(p.m, hidden) << "`kept` must have m rows in column-major order";
  EXPECT_EQ(p.ldc, hidden);
  EXPECT_EQ(p.ldc % 8, 0);
  EXPECT_FALSE(p.transpose_a);
  EXPECT_FALSE(p.transpose_b);
  EXPECT_EQ(p.alignment, 16);
  EXPECT_NE(p.key().find(":dgelu:set:align16"), std::string::npos) << p.key();
  EXPECT_EQ(problem(1).alignment, 2) << "alignment must include the memory of the epilogue";
  EXPECT_EQ(problem(4).alignment, 8);
  EXPECT_EQ(problem(8).alignment, 16);
  EXPECT_NE(problem(4).key(), p.key());
}

/// The index of an operand's matrix for an index of `batch`.
int64_t matrix_of(int64_t index, const Shape& own, const Shape& batch) {
  int64_t at = 0;
  int64_t step = 1;
  for (size_t d = batch.size(), o = own.size(); d-- > 0;) {
    const int64_t i = index % batch[d];
    index /= batch[d];
    if (o == 0) continue;
    --o;
    if (own[o] != 1) at += i * step;
    step *= own[o];
  }
  return at;
}

TEST_F(GemmProblemTest, BatchesAreSplitWhereAnOperandStartsToRepeat) {
  for (int round = 0; round < 300; ++round) {
    Shape batch;
    const int64_t dims = random.integer(0, 4);
    for (int64_t d = 0; d < dims; ++d) batch.push_back(random.integer(1, 3));
    const auto own = [&] {
      Shape shape(batch.begin() + random.integer(0, dims), batch.end());
      for (int64_t& size : shape) size = random.integer(0, 2) == 0 ? 1 : size;
      return shape;
    };
    const Shape a = own();
    const Shape b = own();
    SCOPED_TRACE(fmt::format("{} and {} in {}", to_string(a), to_string(b), to_string(batch)));
    const BatchSplit split = split_batch(a, b, batch);
    ASSERT_EQ(split.outer * split.inner, numel(batch));
    for (int64_t i = 0; i < numel(batch); ++i) {
      const int64_t first = i / split.inner * split.inner;
      const int64_t step = i % split.inner;
      ASSERT_EQ(matrix_of(i, a, batch), matrix_of(first, a, batch) + (split.a_repeats ? 0 : step));
      ASSERT_EQ(matrix_of(i, b, batch), matrix_of(first, b, batch) + (split.b_repeats ? 0 : step));
    }
  }
  EXPECT_EQ(split_batch({7, 12}, {7, 12}, {7, 12}).inner, 84) << "equal batches must be one product";
  EXPECT_EQ(split_batch({7, 12}, {}, {7, 12}).inner, 84);
  EXPECT_EQ(split_batch({7, 1}, {7, 12}, {7, 12}).inner, 12);
}

}  // namespace
}  // namespace tutti
