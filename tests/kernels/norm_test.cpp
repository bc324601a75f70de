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
const Function kLayerNoBias = [](Tape& t, const std::vector<Var>& v) {
  return layer_norm(t, v[0], v[1], Var{}, 1e-3);
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

TEST_F(Norm, Gradients) {
  for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 3, 17}, Shape{5, 2}}) {
    SCOPED_TRACE(to_string(shape));
    const auto in = inputs(shape);
    check_gradients(kLayer, in, random);
    check_gradients(kLayerNoBias, {in[0], in[1]}, random);
    check_gradients(kRms, {in[0], in[1]}, random);
  }
}

TEST_F(Norm, PrecisionsAndThreads) {
  for (const Shape& shape : {Shape{301, 384}, Shape{1000, 37}, Shape{3, 20001}}) {
    SCOPED_TRACE(to_string(shape));
    const auto in = inputs(shape);
    const OpCheckOptions options{.fp32 = 2e-5, .bf16 = 2e-2};
    check_precisions(kLayer, in, random, options);
    check_precisions(kLayerNoBias, {in[0], in[1]}, random, options);
    check_precisions(kRms, {in[0], in[1]}, random, options);
  }
}

TEST_F(Norm, LargeMeansDoNotCancel) {
  // Variance 1 around 1000: a one-pass fp32 variance would be lost.
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
  // A bf16 parameter with an fp32 gradient, as a group with master weights has.
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
  // Far closer than bf16 could hold: sums of 700 terms stayed in fp32.
  expect_close(w.grad, expected, 1e-5, 1e-4);
}

// The sum is used again behind the norm, as in a residual network.
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
  check_gradients(layer, in, random);
  check_gradients(rms, {in[0], in[1], in[2]}, random);
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

}  // namespace
}  // namespace tutti::test
