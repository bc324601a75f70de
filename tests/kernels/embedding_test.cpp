#include "tests/kernels/op_check.h"

#include <tutti/kernels/embedding.h>

#include <cmath>

namespace tutti::test {
namespace {

class Embedding : public RandomTest {};

TEST_F(Embedding, ValuesAndGradients) {
  for (const DType dtype : {DType::kInt32, DType::kInt64}) {
    const Tensor table = random.normal({7, 5});
    const Tensor tokens = random.integers({3, 6}, 0, 6, dtype);
    const Function f = [&](Tape& t, const std::vector<Var>& v) { return embedding(t, v[0], tokens); };
    check_gradients(f, {table}, random);
    Tape tape(stream());
    const Tensor y = f(tape, {Var(table)}).value;
    ASSERT_EQ(y.shape(), (Shape{3, 6, 5}));
    const auto at = to_doubles(tokens);
    for (int64_t i = 0; i < 18; ++i) {
      expect_same_bits(y.view({18, 5}).select(0, i),
                       table.select(0, static_cast<int64_t>(at[static_cast<size_t>(i)])));
    }
  }
}

TEST_F(Embedding, PrecisionsAndThreads) {
  // More rows than tasks, a width past one piece, tokens that repeat often.
  const Tensor tokens = random.integers({2, 500}, 0, 40);
  check_precisions([&](Tape& t, const std::vector<Var>& v) { return embedding(t, v[0], tokens); },
                   {random.normal({1000, 300})}, random, {.fp32 = 1e-5, .bf16 = 2e-2});
}

TEST_F(Embedding, SumsInFp32AndHonoursTheMode) {
  // A bf16 table with an fp32 gradient; the output layer has written its part before.
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
    const Tensor want = Tensor::from(expected, {50, 9}, stream());
    for (double& v : want.span<double>()) v *= pass;
    expect_close(table.grad, want, 1e-5, 1e-3 * pass);
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

}  // namespace
}  // namespace tutti::test
