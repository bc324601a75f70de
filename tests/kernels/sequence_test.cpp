// Embedding and dropout.
#include "tests/kernels/op_check.h"

#include <tutti/kernels/dropout.h>
#include <tutti/kernels/embedding.h>

#include <cmath>

namespace tutti::test {
namespace {

class Embedding : public RandomTest {};

TEST_F(Embedding, RowsOfTheTable) {
  for (const DType dtype : {DType::kInt32, DType::kInt64}) {
    const Tensor table = random.normal({7, 5});
    const Tensor tokens = random.integers({3, 6}, 0, 6, dtype);
    Tape tape(stream());
    const Tensor y = embedding(tape, Var(table), tokens).value;
    ASSERT_EQ(y.shape(), (Shape{3, 6, 5}));
    const auto at = to_doubles(tokens);
    for (int64_t i = 0; i < 18; ++i) {
      expect_same_bits(y.view({18, 5}).select(0, i),
                       table.select(0, static_cast<int64_t>(at[static_cast<size_t>(i)])));
    }
  }
}

TEST_F(Embedding, SumsInFp32InBothGradModes) {
  // A bf16 table with an fp32 gradient, to which the second pass adds, as for a tied output layer.
  Parameter table = parameter_of(random.normal({50, 9}), "table", Role::kEmbedding);
  table.value = table.value.to(DType::kBFloat16, stream());
  const Tensor tokens = random.integers({2000}, 0, 9);
  const Tensor dy = random.normal({2000, 9}, 1, DType::kBFloat16);
  const auto at = to_doubles(tokens);
  const auto d = to_doubles(dy);
  std::vector<double> expected(450, 0);
  for (size_t i = 0; i < 2000; ++i) {
    for (size_t c = 0; c < 9; ++c) expected[static_cast<size_t>(at[i]) * 9 + c] += d[i * 9 + c];
  }
  for (int pass = 1; pass <= 2; ++pass) {  // the first overwrites NaN, the second adds
    Tape tape(stream());
    tape.backward(embedding(tape, tape.leaf(table), tokens), dy);
    const Tensor expected_grad = Tensor::from(expected, {50, 9}, stream());
    for (double& v : expected_grad.span<double>()) v *= pass;
    expect_close(table.grad, expected_grad, 1e-5, 1e-3 * pass);
  }
}

TEST_F(Embedding, EmptyTokensAndErrors) {
  Tape tape(stream());
  const Var table = tape.variable(random.normal({4, 3}));
  const Var y = embedding(tape, table, Tensor::empty({0, 2}, DType::kInt32, stream()));
  EXPECT_EQ(y.shape(), (Shape{0, 2, 3}));
  tape.backward(y);
  EXPECT_EQ(to_doubles(tape.gradient(table)), std::vector<double>(12, 0));
  Tape other(stream());
  EXPECT_THROW(embedding(other, table, Tensor::full({2}, 4, DType::kInt32, stream())), Error);
  EXPECT_THROW(embedding(other, table, Tensor::full({2}, -1, DType::kInt64, stream())), Error);
  EXPECT_THROW(embedding(other, table, random.normal({2})), Error);
  EXPECT_THROW(embedding(other, Var(random.normal({4})), random.integers({2}, 0, 3)), Error);
}

class Dropout : public RandomTest {
 protected:
  StepContext context(int64_t samples) {
    return {.seed = static_cast<uint64_t>(random.integer(0, 1 << 30)),
            .step = static_cast<uint64_t>(random.integer(0, 1000)),
            .first_sample = random.integer(0, 1000),
            .samples = samples};
  }
};

Tensor apply(const Tensor& x, double p, uint64_t site, const StepContext& context) {
  Tape tape(stream(), context);
  return dropout(tape, Var(x), p, site).value;
}

TEST_F(Dropout, MatchesTheDefinition) {
  // Odd sizes: samples with an incomplete last block, and with more elements than one task.
  for (const Shape& shape : {Shape{3, 7}, Shape{2, 5, 33}, Shape{1, 70001}, Shape{2, 40003}}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
      const double p = random.uniform(0.05, 0.9);
      const StepContext context = this->context(shape[0]);
      const Tensor x = random.uniform(shape, 1, 2, dtype);
      const auto in = to_doubles(x);
      const size_t each = in.size() / static_cast<size_t>(shape[0]);
      for (const Isa isa : available_isas()) {
        const UseIsa use(isa);
        const auto out = to_doubles(apply(x, p, 77, context));
        size_t wrong = 0;
        for (size_t i = 0; i < in.size(); ++i) {
          const RandomKey key{context.seed, 77, context.step,
                              static_cast<uint64_t>(context.first_sample) + i / each};
          const size_t element = i % each;
          const bool keep = static_cast<double>(uniform(key.words(element / 4)[element % 4])) >= p;
          const double expected = keep ? in[i] / (1 - p) : 0;
          wrong +=
              std::abs(out[i] - expected) <= (dtype == DType::kBFloat16 ? 1e-2 : 1e-6) * expected ? 0 : 1;
        }
        EXPECT_EQ(wrong, 0U) << to_string(shape) << " " << name(dtype) << " " << name(isa);
      }
    }
  }
}

TEST_F(Dropout, DropsTheRightShare) {
  const int64_t n = 1 << 20;
  const Tensor ones = Tensor::full({1, n}, 1, DType::kFloat32, stream());
  for (const double p : {0.1, 0.5, 0.9}) {
    double dropped = 0;
    for (const double v : to_doubles(apply(ones, p, 1, context(1)))) dropped += v == 0 ? 1 : 0;
    // Seven standard deviations.
    EXPECT_NEAR(dropped / n, p, 7 * std::sqrt(p * (1 - p) / n));
  }
}

TEST_F(Dropout, ShardsOfABatchHaveTheSameMask) {
  // The masks of two halves of a batch, on two ranks, are those of the whole batch on one.
  StepContext whole = context(4);
  const Tensor x = random.uniform({4, 9, 3}, 1, 2, DType::kFloat32);
  const Tensor y = apply(x, 0.5, 9, whole);
  for (int64_t half = 0; half < 2; ++half) {
    StepContext part = whole;
    part.first_sample += 2 * half;
    part.samples = 2;
    expect_same_bits(apply(x.slice(0, 2 * half, 2 * half + 2), 0.5, 9, part),
                     y.slice(0, 2 * half, 2 * half + 2));
  }
}

TEST_F(Dropout, MaskDependsOnTheKey) {
  const Tensor x = Tensor::full({1, 4096}, 1, DType::kFloat32, stream());
  const StepContext base = context(1);
  StepContext other_step = base;
  ++other_step.step;
  StepContext other_sample = base;
  ++other_sample.first_sample;
  StepContext other_seed = base;
  ++other_seed.seed;
  const auto y = to_doubles(apply(x, 0.5, 1, base));
  EXPECT_EQ(to_doubles(apply(x, 0.5, 1, base)), y);
  EXPECT_NE(to_doubles(apply(x, 0.5, 2, base)), y);
  for (const StepContext& c : {other_step, other_sample, other_seed})
    EXPECT_NE(to_doubles(apply(x, 0.5, 1, c)), y);
}

TEST_F(Dropout, IdentityAndErrors) {
  const Tensor x = random.normal({3, 5});
  Tape inference(stream(), {.training = false});
  EXPECT_TRUE(dropout(inference, Var(x), 0.5, 1).value.shares_storage_with(x));
  Tape tape(stream(), {.samples = 3});
  EXPECT_TRUE(dropout(tape, Var(x), 0, 1).value.shares_storage_with(x));
  EXPECT_THROW(dropout(tape, Var(x), 1, 1), Error);
  EXPECT_THROW(dropout(tape, Var(x), -0.1, 1), Error);
  EXPECT_THROW(dropout(tape, Var(random.normal({4})), 0.5, 1), Error);
}

}  // namespace
}  // namespace tutti::test
