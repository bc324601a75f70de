#include "tests/kernels/op_check.h"

#include <tutti/kernels/activation.h>
#include <tutti/kernels/pointwise.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace tutti::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// An optimised build uses fused multiply-add if the instruction set has it.
#if defined(NDEBUG)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

double phi(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}

class Pointwise : public RandomTest {
 protected:
  /// The op's value with the inputs cast to `dtype`.
  static std::vector<double> values(const Function& f, const std::vector<Tensor>& inputs, DType dtype) {
    Tape tape(stream(), {}, Tape::Mode::kInference);
    std::vector<Var> vars;
    for (const Tensor& x : inputs) vars.emplace_back(x.to(dtype, stream()));
    return to_doubles(f(tape, vars).value);
  }
};

TEST_F(Pointwise, Swiglu) {
  const Function f = [](Tape& t, const std::vector<Var>& in) { return swiglu(t, in[0]); };
  const Tensor x = random.normal({5, 6}, 2);
  const std::vector<double> in = to_doubles(x);
  const std::vector<double> out = values(f, {x}, DType::kFloat64);
  for (size_t r = 0; r < 5; ++r) {
    for (size_t c = 0; c < 3; ++c) {
      const double gate = in[r * 6 + c];
      EXPECT_NEAR(out[r * 3 + c], gate / (1 + std::exp(-gate)) * in[r * 6 + 3 + c], 1e-14);
    }
  }
  Tape tape(stream());
  EXPECT_THROW(swiglu(tape, Var(random.normal({2, 5}))), Error);
}

TEST_F(Pointwise, GatedUnits) {
  for (const auto& [activation, form] :
       {std::pair{Activation::kGelu, GeluForm::kExact}, std::pair{Activation::kGeluTanh, GeluForm::kTanh}}) {
    const Function f = [activation](Tape& t, const std::vector<Var>& in) {
      return gated(t, in[0], activation);
    };
    const Tensor x = random.normal({5, 6}, 2);
    Tape tape(stream());
    const Var apart = mul(tape, gelu(tape, Var(x.slice(1, 0, 3)), form), Var(x.slice(1, 3, 6)));
    test::expect_close(Tensor::from(values(f, {x}, DType::kFloat64), {5, 3}, stream()), apart.value, 1e-15,
                       1e-15);
    EXPECT_THROW(gated(tape, Var(random.normal({2, 5})), activation), Error);
  }
  Tape tape(stream());
  EXPECT_THROW(gated(tape, Var(random.normal({2, 4})), Activation::kRelu), Error);
}

// The elementary functions are within their documented error bounds in kernels, which are compiled with
// -fassociative-math.
TEST_F(Pointwise, ElementaryFunctionsKeepTheirBounds) {
  struct Case {
    const char* name;
    Var (*op)(Tape&, const Var&);
    double (*reference)(double);
    double low, high, ulp, baseline_ulp;
  };
  const Case cases[] = {
      {"exp", exp, [](double x) { return std::exp(x); }, -104, 88.7, 5, 107},
      {"exp near 0", exp, [](double x) { return std::exp(x); }, -1, 1, 2, 3},
      {"log", log, [](double x) { return std::log(x); }, 1e-6, 1e6, 2, 2},
      {"log near 1", log, [](double x) { return std::log(x); }, 0.9, 1.1, 2, 2},
      {"tanh", tanh, [](double x) { return std::tanh(x); }, -12, 12, 4, 4},
      {"tanh near 0", tanh, [](double x) { return std::tanh(x); }, -1e-3, 1e-3, 4, 4},
      {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -86, 40, 8, 100},
  };
  for (const Case& c : cases) {
    const Tensor x = random.uniform({50000}, c.low, c.high, DType::kFloat32);
    const std::vector<double> in = to_doubles(x);
    for (const Isa isa : available_isas()) {
      const UseIsa use(isa);
      const std::vector<double> out =
          values([&](Tape& t, const std::vector<Var>& v) { return c.op(t, v[0]); }, {x}, DType::kFloat32);
      double worst = 0;
      double at = 0;
      for (size_t i = 0; i < in.size(); ++i) {
        const double exact = c.reference(in[i]);
        int exponent = 0;
        std::frexp(exact, &exponent);
        const double ulps = std::abs(out[i] - exact) / std::ldexp(1.0, std::max(exponent - 24, -149));
        if (ulps > worst) {
          worst = ulps;
          at = in[i];
        }
      }
      EXPECT_LE(worst, isa == Isa::kBaseline || !kFused ? c.baseline_ulp : c.ulp)
          << c.name << " with " << name(isa) << ", worst at " << at;
    }
  }
}

TEST_F(Pointwise, NanAndInfinity) {
  const double nan = std::nan("");
  const std::vector<double> in = {nan, kInfinity, -kInfinity, 0, -1, 1e-40, 200, -200};
  struct Case {
    const char* name;
    Var (*op)(Tape&, const Var&);
    std::vector<double> expected;
  };
  const double tiny = static_cast<double>(1e-40F);
  const std::vector<Case> cases = {
      {"exp", exp, {nan, kInfinity, 0, 1, std::exp(-1.0), 1, kInfinity, 0}},
      {"log", log, {nan, kInfinity, nan, -kInfinity, nan, std::log(tiny), std::log(200.0), nan}},
      {"tanh", tanh, {nan, 1, -1, 0, std::tanh(-1.0), tiny, 1, -1}},
      {"sigmoid", sigmoid, {nan, 1, 0, 0.5, 1 / (1 + std::exp(1.0)), 0.5, 1, 0}},
      {"relu", relu, {nan, kInfinity, 0, 0, 0, tiny, 200, 0}},
      {"gelu",
       [](Tape& t, const Var& x) { return gelu(t, x); },
       {nan, kInfinity, nan, 0, -phi(-1), 0, 200, 0}},
  };
  for (const Case& c : cases) {
    for (const Isa isa : available_isas()) {
      const UseIsa use(isa);
      // Long enough for whole vectors of every instruction set.
      std::vector<float> wide;
      for (size_t i = 0; i < 8 * 24; ++i) wide.push_back(static_cast<float>(in[i % in.size()]));
      const std::vector<double> out =
          values([&](Tape& t, const std::vector<Var>& v) { return c.op(t, v[0]); },
                 {Tensor::from(wide, {8 * 24}, stream())}, DType::kFloat32);
      for (size_t i = 0; i < out.size(); ++i) {
        const double expected = c.expected[i % in.size()];
        if (std::isnan(expected))
          EXPECT_TRUE(std::isnan(out[i])) << c.name << "(" << wide[i] << ") = " << out[i];
        else if (std::isinf(expected))
          EXPECT_EQ(out[i], expected) << c.name << "(" << wide[i] << ")";
        else
          EXPECT_NEAR(out[i], expected, 1e-6 * (1e-33 + std::abs(expected)))
              << c.name << "(" << wide[i] << ")";
      }
    }
  }
}

TEST_F(Pointwise, GradientsAreWrittenInPlace) {
  // All gradients of a chain of activations and products with constants are in the same memory.
  const int64_t n = 1 << 20;
  Tape tape(stream());
  const Var x = tape.variable(random.normal({n}, 1, DType::kFloat32));
  Var y = x;
  for (int i = 0; i < 4; ++i) y = relu(tape, y);
  y = add_scalar(tape, y, 1);
  const Var constant(Tensor::full({n}, 2, DType::kFloat32, stream()));
  y = div(tape, mul(tape, constant, y), constant);
  const int64_t before = cpu_memory_stats().live_bytes;
  tape.backward(y, Tensor::full({n}, 1, DType::kFloat32, stream()));
  EXPECT_LE(cpu_memory_stats().peak_bytes, before + 4 * n + (1 << 16));
}

TEST_F(Pointwise, Errors) {
  Tape tape(stream());
  const Var a(random.normal({2, 3}));
  EXPECT_THROW(add(tape, a, Var(random.normal({2, 4}))), Error);
  EXPECT_THROW(mul(tape, a, Var(random.normal({2, 3}, 1, DType::kFloat32))), Error);
  EXPECT_THROW(exp(tape, Var(random.integers({3}, 0, 5))), Error);
  EXPECT_THROW(soft_cap(tape, a, 0), Error);
}

}  // namespace
}  // namespace tutti::test
