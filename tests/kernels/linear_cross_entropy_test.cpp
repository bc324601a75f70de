#include <tutti/kernels/linear.h>
#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/pointwise.h>

#include "tests/kernels/op_check.h"

namespace tutti::test {
namespace {

class LinearCrossEntropyTest : public RandomTest {
 protected:
  static constexpr int64_t kClasses = 11;
  Tensor x = random.normal({3, 7, 5});
  Tensor w = random.normal({kClasses, 5});
  Tensor targets = random.integers({3, 7}, -1, kClasses - 1);

  [[nodiscard]] Function chunked(int64_t rows, double smoothing = 0) const {
    return [this, rows, smoothing](Tape& t, const std::vector<Var>& v) {
      return linear_cross_entropy(
          t, v[0], v[1], targets,
          {.loss = {.label_smoothing = smoothing, .scale = 1.0 / 21}, .chunk_rows = rows});
    };
  }
  [[nodiscard]] Function whole(double smoothing = 0) const {
    return [this, smoothing](Tape& t, const std::vector<Var>& v) {
      return cross_entropy(t, linear(t, v[0], v[1], Var{}), targets,
                           {.label_smoothing = smoothing, .scale = 1.0 / 21});
    };
  }
};

TEST_F(LinearCrossEntropyTest, Gradients) {
  for (const int64_t rows : {1, 4, 100}) check_gradients(chunked(rows, 0.1), {x, w}, random);
}

// For any chunk, also one that does not divide the rows, and any gradient of the loss.
TEST_F(LinearCrossEntropyTest, IsTheLossOfAllLogits) {
  for (const int64_t rows : {0, 1, 5, 20, 21, 22}) {
    for (const double smoothing : {0.0, 0.2}) {
      SCOPED_TRACE(fmt::format("chunks of {}, smoothing {}", rows, smoothing));
      const Tensor dy = Tensor::full({}, random.uniform(-3, 3), DType::kFloat64, stream());
      expect_near(run_op(chunked(rows, smoothing), {x, w}, dy, DType::kFloat64, stream()),
                  run_op(whole(smoothing), {x, w}, dy, DType::kFloat64, stream()), 1e-13, "chunked");
    }
  }
}

TEST_F(LinearCrossEntropyTest, Precisions) {
  check_precisions(chunked(4), {x, w}, random);
  check_precisions(chunked(0), {x, w}, random);
}

TEST_F(LinearCrossEntropyTest, OnlyOneGradientIsWanted) {
  for (const bool of_x : {true, false}) {
    const auto gradient = [&](const Function& f) {
      Tape tape(stream());
      const Var a = of_x ? tape.variable(x) : Var(x);
      const Var b = of_x ? Var(w) : tape.variable(w);
      tape.backward(f(tape, {a, b}));
      return tape.gradient(of_x ? a : b);
    };
    expect_close(gradient(chunked(4)), gradient(whole()), 1e-12, 1e-12);
  }
}

TEST_F(LinearCrossEntropyTest, AddsToAGradientThatIsThere) {
  const auto twice = [](const Function& loss) {
    return [loss](Tape& t, const std::vector<Var>& v) { return add(t, loss(t, v), loss(t, v)); };
  };
  const Tensor one = Tensor::full({}, 1, DType::kFloat64, stream());
  expect_near(run_op(twice(chunked(4)), {x, w}, one, DType::kFloat64, stream()),
              run_op(twice(whole()), {x, w}, one, DType::kFloat64, stream()), 1e-13, "twice");
}

TEST_F(LinearCrossEntropyTest, WithoutATapeOnlyTheLoss) {
  Tape tape(stream(), {}, Tape::Mode::kInference);
  const double loss = chunked(4)(tape, {Var(x), Var(w)}).value.item();
  EXPECT_NEAR(loss, whole()(tape, {Var(x), Var(w)}).value.item(), 1e-13);
}

TEST_F(LinearCrossEntropyTest, HoldsTheLogitsOfOneChunk) {
  const int64_t rows = 512;
  const int64_t classes = 4096;
  const Tensor many = random.normal({rows, 8}, 1, DType::kFloat32);
  const Tensor table = random.normal({classes, 8}, 1, DType::kFloat32);
  const Tensor labels = random.integers({rows}, 0, classes - 1);
  // The other tests here hold far less at any time than this one.
  const int64_t before = cpu_memory_stats().live_bytes;
  Tape tape(stream());
  const Var v = tape.variable(many);
  const Var t = tape.variable(table);
  tape.backward(linear_cross_entropy(tape, v, t, labels, {.chunk_rows = 16}));
  const int64_t all_logits = rows * classes * size_of(DType::kFloat32);
  EXPECT_LT(cpu_memory_stats().peak_bytes - before, all_logits / 4);
}

TEST_F(LinearCrossEntropyTest, Refuses) {
  Tape tape(stream());
  const auto run = [&](const Tensor& a, const Tensor& b, const Tensor& t, int64_t rows = 0) {
    return linear_cross_entropy(tape, Var(a), Var(b), t, {.chunk_rows = rows});
  };
  EXPECT_THROW(run(x, random.normal({kClasses, 6}), targets), Error);
  EXPECT_THROW(run(x, w.to(DType::kFloat32, stream()), targets), Error);
  EXPECT_THROW(run(x, w, random.integers({7, 3}, 0, 3)), Error);
  EXPECT_THROW(run(x, w, targets, -1), Error);
  EXPECT_THROW(run(x, w, Tensor::full({3, 7}, kClasses, DType::kInt32, stream())), Error);
}

}  // namespace
}  // namespace tutti::test
