#include "tests/kernels/op_check.h"

#include <tutti/kernels/norm.h>

#include <cmath>

namespace tutti::test {
namespace {

struct Case {
  Shape shape;
  ImageLayout layout;
};

const Case kCases[] = {{{3, 2, 5, 7}, ImageLayout::kNhwc},
                       {{3, 7, 2, 5}, ImageLayout::kNchw},
                       {{11, 3}, ImageLayout::kNhwc},
                       {{11, 3}, ImageLayout::kNchw},
                       {{4, 3, 5}, ImageLayout::kNchw}};

int64_t channels(const Case& c) {
  return c.layout == ImageLayout::kNhwc || c.shape.size() == 2 ? c.shape.back() : c.shape[1];
}

class BatchNorm : public RandomTest {
 protected:
  /// x, w, b, running mean, running variance, residual.
  std::vector<Tensor> inputs(const Case& c) {
    const int64_t n = channels(c);
    return {random.normal(c.shape, 2), random.normal({n}),          random.normal({n}),
            random.normal({n}),        random.uniform({n}, 0.5, 2), random.normal(c.shape)};
  }

  /// Statistics are constants here: their gradients are statistics, not derivatives.
  static Function op(const Case& c, bool relu, bool residual) {
    return [=](Tape& t, const std::vector<Var>& v) {
      return batch_norm(t, v[0], v[1], v[2], Var(v[3].value), Var(v[4].value),
                        {.eps = 1e-3, .layout = c.layout, .relu = relu}, residual ? v[5] : Var{});
    };
  }

  static std::vector<Tensor> used(std::vector<Tensor> in, bool residual) {
    if (!residual) in.pop_back();
    return in;
  }
};

TEST_F(BatchNorm, ValuesAndStatistics) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(to_string(c.shape));
    const auto in = inputs(c);
    const auto n = static_cast<size_t>(channels(c));
    // Channels last for the reference.
    Shape order;
    const bool last = c.layout == ImageLayout::kNhwc || c.shape.size() == 2;
    for (size_t d = 0; d < c.shape.size(); ++d) {
      if (d != 1 || last) order.push_back(static_cast<int64_t>(d));
    }
    if (!last) order.push_back(1);
    const auto x = to_doubles(in[0].permute(order));
    const auto add = to_doubles(in[5].permute(order));
    const double count = static_cast<double>(x.size() / n);
    std::vector<double> mean(n, 0), var(n, 0);
    for (size_t i = 0; i < x.size(); ++i) mean[i % n] += x[i] / count;
    for (size_t i = 0; i < x.size(); ++i) var[i % n] += (x[i] - mean[i % n]) * (x[i] - mean[i % n]) / count;

    for (const bool training : {true, false}) {
      Parameter running_mean = parameter_of(in[3], "m", Role::kStatistic);
      Parameter running_var = parameter_of(in[4], "v", Role::kStatistic);
      Tape tape(stream(), {.training = training, .batch_share = 0.25});
      const Var y =
          batch_norm(tape, tape.variable(in[0]), Var(in[1]), Var(in[2]), tape.leaf(running_mean),
                     tape.leaf(running_var), {.eps = 1e-3, .layout = c.layout, .relu = true}, Var(in[5]));
      const auto out = to_doubles(y.value.permute(order));
      const auto w = to_doubles(in[1]);
      const auto b = to_doubles(in[2]);
      const auto m = training ? mean : to_doubles(in[3]);
      const auto v = training ? var : to_doubles(in[4]);
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t k = i % n;
        const double expected = (x[i] - m[k]) / std::sqrt(v[k] + 1e-3) * w[k] + b[k] + add[i];
        EXPECT_NEAR(out[i], std::max(0.0, expected), 1e-12);
      }
      tape.backward(y);
      for (size_t k = 0; k < n; ++k) {
        const double got_mean = to_doubles(running_mean.grad)[k];
        const double got_var = to_doubles(running_var.grad)[k];
        EXPECT_NEAR(got_mean, training ? 0.25 * mean[k] : 0, 1e-12);
        EXPECT_NEAR(got_var, training ? 0.25 * var[k] * count / (count - 1) : 0, 1e-12);
      }
    }
  }
}

TEST_F(BatchNorm, StatisticsOfMicrobatchesAddUp) {
  const Case c{{4, 3, 3, 5}, ImageLayout::kNhwc};
  const auto in = inputs(c);
  Parameter running_mean = parameter_of(in[3], "m", Role::kStatistic);
  Parameter running_var = parameter_of(in[4], "v", Role::kStatistic);
  for (int part = 0; part < 2; ++part) {
    Tape tape(stream(), {.batch_share = 0.5});
    const Var y = batch_norm(tape, tape.variable(in[0].slice(0, 2 * part, 2 * part + 2)), Var(in[1]),
                             Var(in[2]), tape.leaf(running_mean), tape.leaf(running_var));
    tape.backward(y);
  }
  const auto x = to_doubles(in[0]);
  for (size_t k = 0; k < 5; ++k) {
    double mean = 0;
    for (size_t i = k; i < x.size(); i += 5) mean += x[i] / 36;
    EXPECT_NEAR(to_doubles(running_mean.grad)[k], mean, 1e-13);
  }
}

TEST_F(BatchNorm, Gradients) {
  for (const Case& c : kCases) {
    for (const bool relu : {false, true}) {
      for (const bool residual : {false, true}) {
        for (const bool training : {true, false}) {
          SCOPED_TRACE(fmt::format("{} relu {} residual {} training {}", to_string(c.shape), relu, residual,
                                   training));
          GradCheckOptions options;
          options.constants = {3, 4};
          options.context.training = training;
          options.relative = 1e-5;
          options.kinks = relu;
          check_gradients(op(c, relu, residual), used(inputs(c), residual), random, options);
        }
      }
    }
  }
}

TEST_F(BatchNorm, PrecisionsAndThreads) {
  // Past the sizes of chunks and blocks.
  const Case cases[] = {{{9, 14, 15, 33}, ImageLayout::kNhwc},
                        {{9, 33, 14, 15}, ImageLayout::kNchw},
                        {{3001, 17}, ImageLayout::kNhwc},
                        {{70, 600}, ImageLayout::kNhwc},
                        {{2, 3, 90, 91}, ImageLayout::kNchw}};
  for (const Case& c : cases) {
    SCOPED_TRACE(to_string(c.shape));
    const OpCheckOptions options{.fp32 = 5e-5, .bf16 = 3e-2};
    check_precisions(op(c, false, false), used(inputs(c), false), random, options);
    // With ReLU all results keep clear of its kink, where precisions would differ by whole gradients.
    std::vector<Tensor> in = inputs(c);
    for (double& v : in[0].span<double>())
      v = random.uniform(0.5, 1.5) * (random.integer(0, 1) == 0 ? -1 : 1);
    for (double& w : in[1].span<double>()) w = random.uniform(0.8, 2);
    for (double& b : in[2].span<double>()) b = random.uniform(-0.05, 0.05);
    for (double& r : in[5].span<double>()) r = random.uniform(-0.05, 0.05);
    check_precisions(op(c, true, true), in, random, options);
  }
}

TEST_F(BatchNorm, LargeMeansDoNotCancel) {
  // Deviation 1 around 4000: sums of squares in fp32 would leave nothing of the variance.
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    const Tensor x =
        random.uniform({8, 24, 24, 24}, 4000 - std::sqrt(3.0), 4000 + std::sqrt(3.0), DType::kFloat32);
    const auto run = [&](DType dtype) {
      const Tensor one = Tensor::full({24}, 1, dtype, stream());
      const Tensor zero = Tensor::full({24}, 0, dtype, stream());
      Tape tape(stream());
      return batch_norm(tape, Var(x.to(dtype, stream())), Var(one), Var(zero), Var(zero), Var(one),
                        {.layout = layout})
          .value;
    };
    expect_close(run(DType::kFloat32), run(DType::kFloat64), 0, 1e-2);
  }
}

TEST_F(BatchNorm, OneElementAChannel) {
  Parameter mean = parameter_of(random.normal({3}), "m", Role::kStatistic);
  Parameter var = parameter_of(random.uniform({3}, 1, 2), "v", Role::kStatistic);
  const Tensor x = random.normal({1, 3});
  Tape tape(stream());
  const Tensor w = random.normal({3});
  const Tensor b = random.normal({3});
  const Var y = batch_norm(tape, tape.variable(x), Var(w), Var(b), tape.leaf(mean), tape.leaf(var));
  expect_close(y.value, b.view({1, 3}), 1e-15, 1e-15);
  tape.backward(y);
  EXPECT_EQ(to_doubles(var.grad), (std::vector<double>{0, 0, 0}));
  expect_close(mean.grad, x.view({3}), 0, 1e-15);
}

TEST_F(BatchNorm, Errors) {
  Tape tape(stream());
  const Var c(random.normal({3}));
  const Var x(random.normal({2, 4, 4, 3}));
  EXPECT_THROW(batch_norm(tape, Var(random.normal({3})), c, c, c, c), Error);
  EXPECT_THROW(batch_norm(tape, x, c, c, c, Var(random.normal({4}))), Error);
  EXPECT_THROW(batch_norm(tape, x, c, c, c, c, {.layout = ImageLayout::kNchw}), Error);
  EXPECT_THROW(batch_norm(tape, x, c, c, c, c, {}, Var(random.normal({2, 4, 4, 1}))), Error);
  EXPECT_THROW(batch_norm(tape, Var(random.normal({0, 3})), c, c, c, c), Error);
}

}  // namespace
}  // namespace tutti::test
