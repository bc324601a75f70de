#include "tests/kernels/op_check.h"

#include <tutti/kernels/dropout.h>

#include <cmath>

namespace tutti::test {
namespace {

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
  // Odd sizes: samples whose last block is cut, more elements than one task takes.
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

TEST_F(Dropout, Gradients) {
  const StepContext context = this->context(3);
  GradCheckOptions options;
  options.context = context;
  const Function f = [](Tape& t, const std::vector<Var>& v) { return dropout(t, v[0], 0.4, 5); };
  check_gradients(f, {random.normal({3, 11})}, random, options);
  check_precisions(f, {random.normal({3, 30011})}, random, {.fp32 = 1e-6, .bf16 = 1e-2, .context = context});
}

TEST_F(Dropout, DropsTheShareItShould) {
  const int64_t n = 1 << 20;
  const Tensor ones = Tensor::full({1, n}, 1, DType::kFloat32, stream());
  for (const double p : {0.1, 0.5, 0.9}) {
    double dropped = 0;
    for (const double v : to_doubles(apply(ones, p, 1, context(1)))) dropped += v == 0 ? 1 : 0;
    // Seven standard deviations.
    EXPECT_NEAR(dropped / n, p, 7 * std::sqrt(p * (1 - p) / n));
  }
}

TEST_F(Dropout, ShardsOfABatchSeeTheSameMask) {
  // Two halves of a batch on two ranks give what the whole gives on one.
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

TEST_F(Dropout, KeysMatter) {
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
