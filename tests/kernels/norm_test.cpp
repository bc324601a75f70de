// Properties of the norms that the table of op cases does not cover.
#include "tests/kernels/op_check.h"

#include <tutti/kernels/norm.h>
#include <tutti/kernels/pointwise.h>

#include <cmath>

namespace tutti::test {
namespace {

class Norm : public RandomTest {
 protected:
  [[nodiscard]] std::vector<Tensor> inputs(const Shape& shape) {
    const int64_t c = shape.back();
    return {random.normal(shape, 2), random.normal({c}), random.normal({c})};
  }
};

const Function kLayer = [](Tape& t, const std::vector<Var>& v) {
  return layer_norm(t, v[0], v[1], v[2], 1e-3);
};
const Function kRms = [](Tape& t, const std::vector<Var>& v) { return rms_norm(t, v[0], v[1], 1e-3); };

TEST_F(Norm, LayerNormValues) {
  const int64_t c = 13;
  const auto in = inputs({4, 3, c});
  Tape tape(stream());
  const std::vector<double> y = to_doubles(kLayer(tape, {Var(in[0]), Var(in[1]), Var(in[2])}).value);
  const auto x = to_doubles(in[0]);
  const auto w = to_doubles(in[1]);
  const auto b = to_doubles(in[2]);
  for (size_t r = 0; r < 12; ++r) {
    double mean = 0;
    double var = 0;
    for (size_t i = 0; i < 13; ++i) mean += x[r * 13 + i] / 13;
    for (size_t i = 0; i < 13; ++i) var += (x[r * 13 + i] - mean) * (x[r * 13 + i] - mean) / 13;
    for (size_t i = 0; i < 13; ++i) {
      EXPECT_NEAR(y[r * 13 + i], (x[r * 13 + i] - mean) / std::sqrt(var + 1e-3) * w[i] + b[i], 1e-12);
    }
  }
}

TEST_F(Norm, RmsNormValues) {
  const auto in = inputs({5, 9});
  Tape tape(stream());
  const std::vector<double> y = to_doubles(kRms(tape, {Var(in[0]), Var(in[1])}).value);
  const auto x = to_doubles(in[0]);
  const auto w = to_doubles(in[1]);
  for (size_t r = 0; r < 5; ++r) {
    double square = 0;
    for (size_t i = 0; i < 9; ++i) square += x[r * 9 + i] * x[r * 9 + i] / 9;
    for (size_t i = 0; i < 9; ++i)
      EXPECT_NEAR(y[r * 9 + i], x[r * 9 + i] / std::sqrt(square + 1e-3) * w[i], 1e-12);
  }
}

TEST_F(Norm, LargeMeansDoNotCancel) {
  // Mean 1000, variance 1: a variance from one pass in fp32 would have no correct digits.
  const Tensor x = random.uniform({8, 512}, 1000 - std::sqrt(3.0), 1000 + std::sqrt(3.0), DType::kFloat32);
  const Tensor w = Tensor::full({512}, 1, DType::kFloat32, stream());
  Tape tape(stream());
  const Tensor y = layer_norm(tape, Var(x), Var(w), Var{}).value;
  const Tensor exact =
      layer_norm(tape, Var(x.to(DType::kFloat64, stream())), Var(w.to(DType::kFloat64, stream())), Var{})
          .value;
  expect_close(y, exact, 0, 3e-3);
}

TEST_F(Norm, ParameterGradientsInFp32ForBf16Weights) {
  // A bf16 parameter with an fp32 gradient, as in a group with master weights.
  Parameter w = parameter_of(random.normal({65}), "w", Role::kNorm);
  w.value = w.value.to(DType::kBFloat16, stream());
  w.grad = Tensor::full({65}, 5, DType::kFloat32, stream());
  w.grad_defined = true;
  const Tensor x = random.normal({700, 65}, 1, DType::kBFloat16);
  const Tensor dy = random.normal({700, 65}, 1, DType::kBFloat16);
  Tape tape(stream());
  const Var y = rms_norm(tape, Var(x), tape.leaf(w));
  tape.backward(y, dy);
  const Outcome exact = run_op([](Tape& t, const std::vector<Var>& v) { return rms_norm(t, v[0], v[1]); },
                               {x, w.value}, dy, DType::kFloat64, stream());
  const Tensor expected = exact.gradients[1].clone(stream());
  for (double& v : expected.span<double>()) v += 5;
  // More accurate than bf16: sums of 700 terms are in fp32.
  expect_close(w.grad, expected, 1e-5, 1e-4);
}

// The sum is used again after the norm, as in a residual network.
TEST_F(Norm, AddNormIsAddAndNorm) {
  const Shape shape{3, 5, 17};
  const std::vector<Tensor> in = {random.normal(shape), random.normal(shape), random.normal({17}),
                                  random.normal({17})};
  const auto both = [](Tape& t, const AddNorm& r) { return mul(t, r.sum, r.y); };
  const Function layer = [&](Tape& t, const std::vector<Var>& v) {
    return both(t, add_layer_norm(t, v[0], v[1], v[2], v[3], 1e-3));
  };
  const Function rms = [&](Tape& t, const std::vector<Var>& v) {
    return both(t, add_rms_norm(t, v[0], v[1], v[2], 1e-3));
  };
  const Tensor dy = random.normal(shape);
  const Function plain = [&](Tape& t, const std::vector<Var>& v) {
    const Var sum = add(t, v[0], v[1]);
    return both(t, {sum, layer_norm(t, sum, v[2], v[3], 1e-3)});
  };
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
    expect_same_bits(run_op(layer, in, dy, dtype, stream()), run_op(plain, in, dy, dtype, stream()),
                     std::string(name(dtype)));
  }
  Tape tape(stream());
  EXPECT_THROW(add_rms_norm(tape, Var(in[0]), Var(random.normal({3, 5, 1})), Var(in[2])), Error);
}

TEST_F(Norm, EmptyRowsAndErrors) {
  Tape tape(stream());
  const Var w = tape.variable(random.normal({3}, 1, DType::kFloat32));
  const Var x = tape.variable(Tensor::empty({0, 3}, DType::kFloat32, stream()));
  tape.backward(rms_norm(tape, x, w));
  EXPECT_EQ(to_doubles(tape.gradient(w)), (std::vector<double>{0, 0, 0}));
  Tape other(stream());
  const Var good(random.normal({2, 3}));
  EXPECT_THROW(rms_norm(other, good, Var(random.normal({4}))), Error);
  EXPECT_THROW(layer_norm(other, good, Var(random.normal({3})), Var(random.normal({2}))), Error);
  EXPECT_THROW(rms_norm(other, good, Var(random.normal({3}, 1, DType::kFloat32))), Error);
  EXPECT_THROW(rms_norm(other, Var(random.normal({})), Var(random.normal({1}))), Error);
}

struct BatchNormCase {
  Shape shape;
  ImageLayout layout;
};

const BatchNormCase kBatchNormCases[] = {{{3, 2, 5, 7}, ImageLayout::kNhwc},
                                         {{3, 7, 2, 5}, ImageLayout::kNchw},
                                         {{11, 3}, ImageLayout::kNhwc},
                                         {{11, 3}, ImageLayout::kNchw},
                                         {{4, 3, 5}, ImageLayout::kNchw}};

int64_t channels(const BatchNormCase& c) {
  return c.layout == ImageLayout::kNhwc || c.shape.size() == 2 ? c.shape.back() : c.shape[1];
}

class BatchNorm : public RandomTest {
 protected:
  /// x, w, b, running mean, running variance, residual.
  std::vector<Tensor> inputs(const BatchNormCase& c) {
    const int64_t n = channels(c);
    return {random.normal(c.shape, 2), random.normal({n}),          random.normal({n}),
            random.normal({n}),        random.uniform({n}, 0.5, 2), random.normal(c.shape)};
  }
};

TEST_F(BatchNorm, ValuesAndStatistics) {
  for (const BatchNormCase& c : kBatchNormCases) {
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
        const double actual_mean = to_doubles(running_mean.grad)[k];
        const double actual_var = to_doubles(running_var.grad)[k];
        EXPECT_NEAR(actual_mean, training ? 0.25 * mean[k] : 0, 1e-12);
        EXPECT_NEAR(actual_var, training ? 0.25 * var[k] * count / (count - 1) : 0, 1e-12);
      }
    }
  }
}

TEST_F(BatchNorm, StatisticsOfMicrobatchesAddUp) {
  const BatchNormCase c{{4, 3, 3, 5}, ImageLayout::kNhwc};
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

TEST_F(BatchNorm, LargeMeansDoNotCancel) {
  // Mean 4000, variance 1: a variance from sums of squares in fp32 would have no correct digits.
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

TEST_F(BatchNorm, OneElementPerChannel) {
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
