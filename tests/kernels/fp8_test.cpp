#include <tutti/core/float8.h>
#include <tutti/kernels/fp8.h>

#include "tests/kernels/op_check.h"

namespace tutti::test {
namespace {

constexpr int64_t kRows = 48;
constexpr int64_t kInputs = 32;
constexpr int64_t kOutputs = 80;

class Fp8 : public RandomTest {
 protected:
  /// Random values that are exact in bf16, as fp64.
  Tensor bf16(const Shape& shape, double deviation) {
    return random.normal(shape, deviation).to(DType::kBFloat16, stream()).to(DType::kFloat64, stream());
  }
  std::vector<Tensor> inputs(int64_t rows = kRows) {
    const auto range = [](double value) { return Tensor::full({1}, value, DType::kFloat64, stream()); };
    return {bf16({rows, kInputs}, 3),     bf16({kOutputs, kInputs}, 0.1), bf16({kOutputs}, 1),
            range(random.uniform(1, 20)), range(random.uniform(0.1, 1)),  range(random.uniform(0.5, 5))};
  }
  static Function with_ranges(Activation activation = Activation::kNone) {
    return [activation](Tape& t, const std::vector<Var>& v) {
      return fp8_linear(t, v[0], v[1], v[2], activation, {.x = v[3], .w = v[4], .dy = v[5]});
    };
  }
  static StepContext at_step(uint64_t step) { return {.step = step, .samples = 1, .batch_share = 0.25}; }
};

/// The values of an operand after rounding to fp8, as fp64.
template <Fp8Format format>
std::vector<double> in_fp8(const Tensor& x, const Tensor& range) {
  const float scale =
      fp8_scale(static_cast<float>(BFloat16(static_cast<float>(range.item()))), Fp8Bits<format>::kMost);
  std::vector<double> values = to_doubles(x);
  for (double& value : values)
    value = from_fp8<format>(to_fp8<format>(static_cast<float>(value) * scale)) / scale;
  return values;
}

double largest(const Tensor& x) {
  double most = 0;
  for (const double value : to_doubles(x)) most = std::max(most, std::abs(value));
  return most;
}

TEST_F(Fp8, ProductsUseRoundedOperands) {
  const auto in = inputs();
  const Tensor dy = bf16({kRows, kOutputs}, 0.7);
  const Outcome actual = run_op(with_ranges(), in, dy, DType::kBFloat16, stream(), at_step(kFirstFp8Step));
  const auto x = in_fp8<Fp8Format::kE4M3>(in[0], in[3]);
  const auto w = in_fp8<Fp8Format::kE4M3>(in[1], in[4]);
  const auto d = in_fp8<Fp8Format::kE5M2>(dy, in[5]);
  const auto b = to_doubles(in[2]);
  const Tensor y = Tensor::zeros({kRows, kOutputs}, DType::kFloat64, stream());
  const Tensor dx = Tensor::zeros({kRows, kInputs}, DType::kFloat64, stream());
  const Tensor dw = Tensor::zeros({kOutputs, kInputs}, DType::kFloat64, stream());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t o = 0; o < kOutputs; ++o) {
      double& sum = y.data<double>()[r * kOutputs + o];
      sum = b[static_cast<size_t>(o)];
      for (int64_t i = 0; i < kInputs; ++i) {
        const auto at_x = static_cast<size_t>(r * kInputs + i);
        const auto at_w = static_cast<size_t>(o * kInputs + i);
        const double of_y = d[static_cast<size_t>(r * kOutputs + o)];
        sum += x[at_x] * w[at_w];
        dx.data<double>()[at_x] += of_y * w[at_w];
        dw.data<double>()[at_w] += of_y * x[at_x];
      }
    }
  }
  // y and the gradients are rounded to bf16 once or twice.
  expect_near({actual.output, {actual.gradients[0], actual.gradients[1]}}, {y, {dx, dw}}, 1.2e-2, "fp8");
  expect_near({actual.gradients[2], {}},
              {run_op(with_ranges(), in, dy, DType::kBFloat16, stream()).gradients[2], {}}, 1e-2, "bias");
}

TEST_F(Fp8, RangesAreTheLargestMagnitudes) {
  const auto in = inputs();
  const Tensor dy = bf16({kRows, kOutputs}, 0.7);
  for (const uint64_t step : {uint64_t{0}, kFirstFp8Step}) {
    const Outcome actual = run_op(with_ranges(), in, dy, DType::kBFloat16, stream(), at_step(step));
    const double expected[] = {largest(in[0]), largest(in[1]), largest(dy)};
    for (size_t i = 0; i < 3; ++i) {
      const double range = actual.gradients[3 + i].item();
      EXPECT_NEAR(range, 0.25 * expected[i], 0.005 * expected[i]) << "step " << step << ", operand " << i;
    }
  }
}

// Products are in bf16 in the first step, in evaluation, and for extents that fp8 does not support.
TEST_F(Fp8, OtherProductsHaveTheBitsOfBf16) {
  const Function plain = [](Tape& t, const std::vector<Var>& v) {
    return linear(t, v[0], v[1], v[2], Activation::kGeluTanh);
  };
  const auto check = [&](int64_t rows, const StepContext& context, const std::string& what) {
    const auto in = inputs(rows);
    const Tensor dy = bf16({rows, kOutputs}, 1);
    Outcome actual = run_op(with_ranges(Activation::kGeluTanh), in, dy, DType::kBFloat16, stream(), context);
    actual.gradients.resize(3);
    expect_same_bits(actual, run_op(plain, {in[0], in[1], in[2]}, dy, DType::kBFloat16, stream(), context),
                     what);
  };
  check(kRows, at_step(0), "first step");
  check(kRows + 1, at_step(9), "odd rows");
  StepContext evaluation = at_step(9);
  evaluation.training = false;
  check(kRows, evaluation, "evaluation");
}

TEST_F(Fp8, LargeValuesSaturateAndNanPropagates) {
  auto in = inputs();
  in[3] = Tensor::full({1}, 1e-3, DType::kFloat64, stream());  // a range that is too small for x
  const Tensor dy = bf16({kRows, kOutputs}, 1);
  Outcome actual = run_op(with_ranges(), in, dy, DType::kBFloat16, stream(), at_step(5));
  for (const double value : to_doubles(actual.output)) EXPECT_TRUE(std::isfinite(value));
  for (const double bad : {std::numeric_limits<double>::infinity(), std::nan("")}) {
    in[0].data<double>()[7] = bad;
    actual = run_op(with_ranges(), in, dy, DType::kBFloat16, stream(), at_step(5));
    EXPECT_TRUE(std::isnan(to_doubles(actual.output)[0]));
    EXPECT_FALSE(std::isfinite(actual.gradients[3].item()));
  }
}

TEST_F(Fp8, OtherDtypesAreRefused) {
  const auto in = inputs();
  EXPECT_THROW((void)run_op(with_ranges(), in, random.normal({kRows, kOutputs}), DType::kFloat32, stream()),
               Error);
}

TEST_F(Fp8, MlpHasTheBitsOfTwoLayers) {
  auto in = inputs();
  for (const Tensor& more : {bf16({16, kOutputs}, 0.1), bf16({16}, 1)}) in.push_back(more);
  for (const double range : {4.0, 0.4, 3.0})
    in.push_back(Tensor::full({1}, range, DType::kFloat64, stream()));
  const auto ranges = [](const std::vector<Var>& v, size_t first) {
    return Fp8Ranges{.x = v[first], .w = v[first + 1], .dy = v[first + 2]};
  };
  const Function one = [&](Tape& t, const std::vector<Var>& v) {
    return fp8_mlp(t, v[0], v[1], v[2], v[6], v[7], Activation::kGeluTanh,
                   {.up = ranges(v, 3), .down = ranges(v, 8)});
  };
  const Function two = [&](Tape& t, const std::vector<Var>& v) {
    const Var h = fp8_linear(t, v[0], v[1], v[2], Activation::kGeluTanh, ranges(v, 3));
    return fp8_linear(t, h, v[6], v[7], Activation::kNone, ranges(v, 8));
  };
  const Tensor dy = bf16({kRows, 16}, 1);
  for (const uint64_t step : {uint64_t{0}, kFirstFp8Step}) {
    expect_same_bits(run_op(one, in, dy, DType::kBFloat16, stream(), at_step(step)),
                     run_op(two, in, dy, DType::kBFloat16, stream(), at_step(step)), "mlp");
  }
}

// The chunked loss of the head, against linear() and cross_entropy().
TEST_F(Fp8, ChunkedLossMatchesTheLossOfAllLogits) {
  const auto in = inputs();
  const Tensor targets = random.integers({kRows}, 0, kOutputs - 1);
  const auto run = [&](int64_t rows) {
    const Function f = [&](Tape& t, const std::vector<Var>& v) {
      const Fp8Ranges ranges{.x = v[2], .w = v[3], .dy = v[4]};
      if (rows > 0) return fp8_linear_cross_entropy(t, v[0], v[1], targets, {.chunk_rows = rows}, ranges);
      return cross_entropy(t, fp8_linear(t, v[0], v[1], Var{}, Activation::kNone, ranges), targets);
    };
    const Tensor one = Tensor::full({}, 1, DType::kFloat64, stream());
    return run_op(f, {in[0], in[1], in[3], in[4], in[5]}, one, DType::kBFloat16, stream(), at_step(3));
  };
  const Outcome whole = run(0);
  for (const int64_t rows : {16, 32, 48, 100}) {
    const Outcome chunked = run(rows);
    expect_near(chunked, whole, 2e-2, fmt::format("chunks of {}", rows));
    for (size_t i = 2; i < 5; ++i) EXPECT_EQ(chunked.gradients[i].item(), whole.gradients[i].item());
  }
  // 20 rows are not a valid chunk for fp8: the same loss, in bf16.
  expect_near({run(20).output, {}}, {whole.output, {}}, 5e-2, "bf16");
}

}  // namespace
}  // namespace tutti::test
