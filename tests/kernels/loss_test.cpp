// Softmax and the losses.
#include "tests/kernels/op_check.h"

#include "kernels/cases/cross_entropy_settings.h"

#include <tutti/kernels/cross_entropy.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/softmax.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace tutti::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Softmax : public RandomTest {};
class CrossEntropy : public RandomTest {};

const Function kSoftmax = [](Tape& t, const std::vector<Var>& v) { return softmax(t, v[0]); };
const Function kLogSoftmax = [](Tape& t, const std::vector<Var>& v) { return log_softmax(t, v[0]); };

/// log(sum(exp(row))) by its definition.
double log_sum_exp(const double* row, size_t n) {
  const double largest = *std::max_element(row, row + n);
  if (std::isinf(largest) && largest < 0) return largest;
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += std::exp(row[i] - largest);
  return largest + std::log(sum);
}

TEST_F(Softmax, Values) {
  for (const Shape& shape : {Shape{1}, Shape{6}, Shape{3, 5}, Shape{2, 3, 11}}) {
    const Tensor x = random.normal(shape, 3);
    Tape tape(stream());
    const auto in = to_doubles(x);
    const auto y = to_doubles(kSoftmax(tape, {Var(x)}).value);
    const auto z = to_doubles(kLogSoftmax(tape, {Var(x)}).value);
    const auto n = static_cast<size_t>(shape.back());
    for (size_t i = 0; i < in.size(); ++i) {
      const double lse = log_sum_exp(in.data() + i / n * n, n);
      EXPECT_NEAR(y[i], std::exp(in[i] - lse), 1e-14);
      EXPECT_NEAR(z[i], in[i] - lse, 1e-13);
    }
  }
}

TEST_F(Softmax, InfinityAndNan) {
  const double nan = std::nan("");
  // Rows of three parts of the online sum, so that special values are rescaled.
  constexpr int64_t kWidth = 3000;
  for (const Isa isa : available_isas()) {
    const UseIsa use(isa);
    Tensor x = random.normal({6, kWidth}, 3);
    double* p = x.data<double>();
    for (int64_t i = 0; i < 2000; ++i) p[i] = -kInfinity;                // masked at the start
    for (int64_t i = 1000; i < kWidth; ++i) p[kWidth + i] = -kInfinity;  // and at the end
    for (int64_t i = 0; i < kWidth; ++i) p[2 * kWidth + i] = -kInfinity;
    p[3 * kWidth + 1500] = nan;
    p[4 * kWidth + 2500] = kInfinity;
    for (int64_t i = 0; i < kWidth; ++i) p[5 * kWidth + i] = i == 2222 ? 3e38 : -3e38;  // far apart
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
      Tape tape(stream());
      const auto y = to_doubles(softmax(tape, Var(x.to(dtype, stream()))).value);
      const auto in = to_doubles(x.to(dtype, stream()));
      const double tolerance = dtype == DType::kBFloat16 ? 1e-2 : 1e-5;
      for (const size_t row : {size_t{0}, size_t{1}}) {
        const double lse = log_sum_exp(in.data() + row * kWidth, kWidth);
        for (size_t i = 0; i < kWidth; ++i) {
          const double expected = std::exp(in[row * kWidth + i] - lse);
          EXPECT_NEAR(y[row * kWidth + i], expected, tolerance * expected) << "row " << row << " at " << i;
        }
      }
      for (const size_t row : {size_t{2}, size_t{3}, size_t{4}}) {
        EXPECT_TRUE(std::isnan(y[row * kWidth + (row == 4 ? 2500 : row == 3 ? 1500 : 7)])) << "row " << row;
      }
      EXPECT_EQ(y[5 * kWidth + 2222], 1);
      EXPECT_EQ(y[5 * kWidth], 0);
    }
  }
}

Tensor draw_targets(Random& random, const Shape& shape, int64_t classes,
                    const cases::CrossEntropySetting& setting, DType dtype) {
  Tensor targets = random.integers(shape, 0, classes - 1, DType::kInt64);
  for (int64_t& target : targets.span<int64_t>()) {
    if (random.uniform() < setting.ignored) target = setting.options.ignore_index;
  }
  return targets.to(dtype, stream());
}

/// The definition: scale * sum of -sum_c q_c log p_c with smoothed q.
double reference_loss(const std::vector<double>& x, const std::vector<double>& targets, size_t n,
                      const CrossEntropyOptions& o) {
  double total = 0;
  for (size_t r = 0; r < targets.size(); ++r) {
    if (targets[r] == static_cast<double>(o.ignore_index)) continue;
    const double lse = log_sum_exp(x.data() + r * n, n);
    for (size_t c = 0; c < n; ++c) {
      const double q = (static_cast<double>(c) == targets[r] ? 1 - o.label_smoothing : 0) +
                       o.label_smoothing / static_cast<double>(n);
      total -= q * (x[r * n + c] - lse);
    }
  }
  return o.scale * total;
}

TEST_F(CrossEntropy, Values) {
  for (const cases::CrossEntropySetting& setting : cases::kCrossEntropySettings) {
    for (const DType dtype : {DType::kInt32, DType::kInt64}) {
      const Tensor x = random.normal({3, 4, 7}, 2);
      const Tensor targets = draw_targets(random, {3, 4}, 7, setting, dtype);
      const Function f = [&](Tape& t, const std::vector<Var>& v) {
        return cross_entropy(t, v[0], targets, setting.options);
      };
      Tape tape(stream());
      const double loss = f(tape, {Var(x)}).value.item();
      EXPECT_NEAR(loss, reference_loss(to_doubles(x), to_doubles(targets), 7, setting.options), 1e-11);
    }
  }
}

TEST_F(CrossEntropy, AllRowsIgnored) {
  const Tensor targets = Tensor::full({5}, -1, DType::kInt32, stream());
  Tape tape(stream());
  // NaN in an ignored row has no effect on the loss and the gradient.
  const Var x = tape.variable(Tensor::full({5, 9}, std::nan(""), DType::kFloat32, stream()));
  const Var loss = cross_entropy(tape, x, targets);
  EXPECT_EQ(loss.value.item(), 0);
  tape.backward(loss);
  EXPECT_EQ(to_doubles(tape.gradient(x)), std::vector<double>(45, 0));
  const RowEvaluation none = cross_entropy_evaluate(stream(), x.value, targets);
  EXPECT_EQ(none.loss, 0);
  EXPECT_EQ(none.count, 0);
}

TEST_F(CrossEntropy, GradientOverwritesTheLogits) {
  const Tensor targets = random.integers({64}, 0, 999);
  const Tensor source = random.normal({64, 1000}, 1, DType::kFloat32);
  for (const bool keep : {false, true}) {
    Tape tape(stream());
    const Var x = tape.variable(source);
    Var logits = scale(tape, x, 2);  // its backward needs no output
    const void* memory = logits.value.raw();
    const Tensor before = logits.value.clone(stream());
    const Var loss = cross_entropy(tape, logits, targets);
    const Tensor held = keep ? logits.value : Tensor();
    logits = Var{};
    tape.backward(loss);
    // scale also works in place: the gradient of x has the same memory.
    EXPECT_EQ(tape.gradient(x).raw() == memory, !keep);
    if (keep) expect_same_bits(held, before, "logits with another reference");
  }
}

TEST_F(CrossEntropy, Evaluate) {
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    const Tensor x = random.normal({40, 5}, 1, dtype);
    Tensor targets = random.integers({40}, -1, 4);
    const auto in = to_doubles(x);
    const auto target = to_doubles(targets);
    double loss = 0;
    double correct = 0;
    double count = 0;
    for (size_t r = 0; r < 40; ++r) {
      if (target[r] < 0) continue;
      const double* row = in.data() + r * 5;
      loss += log_sum_exp(row, 5) - row[static_cast<size_t>(target[r])];
      correct += std::max_element(row, row + 5) - row == static_cast<int64_t>(target[r]) ? 1 : 0;
      count += 1;
    }
    const RowEvaluation actual = cross_entropy_evaluate(stream(), x, targets);
    EXPECT_NEAR(actual.loss, loss, 1e-5 * loss);
    EXPECT_EQ(actual.correct, correct);
    EXPECT_EQ(actual.count, count);
  }
}

TEST_F(CrossEntropy, EvaluateCountsTheFirstOfEqualLogits) {
  const Tensor x = Tensor::from(std::vector<float>{1, 2, 2, 2, 2, 1, 0, 0, 0}, {3, 3}, stream());
  const auto correct = [&](std::vector<int32_t> targets) {
    return cross_entropy_evaluate(stream(), x, Tensor::from(targets, {3}, stream())).correct;
  };
  EXPECT_EQ(correct({1, 0, 0}), 3);
  EXPECT_EQ(correct({2, 1, 1}), 0);
  EXPECT_EQ(correct({0, 2, 2}), 0);
}

TEST_F(CrossEntropy, Errors) {
  Tape tape(stream());
  const Var x(random.normal({3, 4}));
  EXPECT_THROW(cross_entropy(tape, x, random.integers({4}, 0, 3)), Error);
  EXPECT_THROW(cross_entropy(tape, x, Tensor::full({3}, 4, DType::kInt32, stream())), Error);
  EXPECT_THROW(cross_entropy(tape, x, Tensor::full({3}, -2, DType::kInt32, stream())), Error);
  EXPECT_THROW(cross_entropy(tape, x, random.normal({3})), Error);
  EXPECT_THROW(cross_entropy(tape, x, random.integers({3}, 0, 3), {.label_smoothing = 1}), Error);
}

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

// For any chunk, including ones that do not divide the rows, and any gradient of the loss.
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

TEST_F(LinearCrossEntropyTest, OneGradientOnly) {
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

TEST_F(LinearCrossEntropyTest, AddsToExistingGradients) {
  const auto twice = [](const Function& loss) {
    return [loss](Tape& t, const std::vector<Var>& v) { return add(t, loss(t, v), loss(t, v)); };
  };
  const Tensor one = Tensor::full({}, 1, DType::kFloat64, stream());
  expect_near(run_op(twice(chunked(4)), {x, w}, one, DType::kFloat64, stream()),
              run_op(twice(whole()), {x, w}, one, DType::kFloat64, stream()), 1e-13, "twice");
}

TEST_F(LinearCrossEntropyTest, InferenceComputesTheLossOnly) {
  Tape tape(stream(), {}, Tape::Mode::kInference);
  const double loss = chunked(4)(tape, {Var(x), Var(w)}).value.item();
  EXPECT_NEAR(loss, whole()(tape, {Var(x), Var(w)}).value.item(), 1e-13);
}

TEST_F(LinearCrossEntropyTest, UsesMemoryForOneChunkOfLogits) {
  const int64_t rows = 512;
  const int64_t classes = 4096;
  const Tensor many = random.normal({rows, 8}, 1, DType::kFloat32);
  const Tensor table = random.normal({classes, 8}, 1, DType::kFloat32);
  const Tensor labels = random.integers({rows}, 0, classes - 1);
  // The other tests of this file use much less memory than this one.
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
