#include "tests/kernels/op_check.h"

#include <tutti/kernels/activation.h>
#include <tutti/kernels/pointwise.h>

#include <cmath>
#include <limits>
#include <numbers>

namespace tutti::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Multiplications and additions are fused by the optimiser, where the instruction set can.
#if defined(NDEBUG)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

double phi(double x) {
  return 0.5 * std::erfc(-x / std::numbers::sqrt2);
}

/// A row is all that a new operation needs here.
struct Unary {
  const char* name;
  Var (*op)(Tape&, const Var&);
  double (*reference)(double);
  double low, high;  // where inputs are drawn
};

const Unary kUnary[] = {
    {"neg", neg, [](double x) { return -x; }, -3, 3},
    {"exp", exp, [](double x) { return std::exp(x); }, -5, 5},
    {"log", log, [](double x) { return std::log(x); }, 0.1, 5},
    {"sqrt", sqrt, [](double x) { return std::sqrt(x); }, 0.1, 5},
    {"square", square, [](double x) { return x * x; }, -3, 3},
    {"scale", [](Tape& t, const Var& x) { return scale(t, x, -2.5); }, [](double x) { return -2.5 * x; }, -3,
     3},
    {"add_scalar", [](Tape& t, const Var& x) { return add_scalar(t, x, 1.75); },
     [](double x) { return x + 1.75; }, -3, 3},
    {"relu", relu, [](double x) { return x > 0 ? x : 0; }, -3, 3},
    {"gelu", [](Tape& t, const Var& x) { return gelu(t, x); }, [](double x) { return x * phi(x); }, -6, 6},
    {"gelu_tanh", [](Tape& t, const Var& x) { return gelu(t, x, GeluForm::kTanh); },
     [](double x) {
       return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
     },
     -6, 6},
    {"silu", silu, [](double x) { return x / (1 + std::exp(-x)); }, -8, 8},
    {"sigmoid", sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -8, 8},
    {"tanh", tanh, [](double x) { return std::tanh(x); }, -4, 4},
};

struct Binary {
  const char* name;
  Var (*op)(Tape&, const Var&, const Var&);
  double (*reference)(double, double);
};

const Binary kBinary[] = {
    {"add", add, [](double a, double b) { return a + b; }},
    {"sub", sub, [](double a, double b) { return a - b; }},
    {"mul", mul, [](double a, double b) { return a * b; }},
    {"div", div, [](double a, double b) { return a / b; }},
};

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

TEST_F(Pointwise, UnaryOperations) {
  for (const Unary& u : kUnary) {
    SCOPED_TRACE(u.name);
    const Function f = [&](Tape& t, const std::vector<Var>& in) { return u.op(t, in[0]); };
    Tensor x = random.uniform({3, 37}, u.low, u.high);
    // Differences mean nothing at the kink of relu.
    for (double& v : x.span<double>()) v = std::abs(v) < 1e-3 ? 0.5 : v;
    check_gradients(f, {x}, random);
    const std::vector<double> in = to_doubles(x);
    const std::vector<double> out = values(f, {x}, DType::kFloat64);
    for (size_t i = 0; i < in.size(); ++i) {
      EXPECT_NEAR(out[i], u.reference(in[i]), 1e-13 * (1 + std::abs(out[i]))) << "at " << in[i];
    }
    // More elements than a task has, and a ragged end.
    check_precisions(f, {random.uniform({70001}, u.low, u.high)}, random);
  }
}

TEST_F(Pointwise, BinaryOperationsBroadcast) {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{5, 7}, {5, 7}},    {{4, 3, 5}, {5}},    {{5}, {2, 3, 5}},
      {{4, 3, 5}, {3, 1}}, {{4, 1, 5}, {3, 1}}, {{2, 1, 3, 1}, {4, 1, 6}},
      {{}, {3, 4}},        {{1, 1}, {1}},       {{2, 3, 4, 5}, {1, 3, 1, 1}},
      {{7, 1}, {1, 9}}};
  for (const Binary& b : kBinary) {
    for (const auto& [left, right] : shapes) {
      SCOPED_TRACE(fmt::format("{} {} {}", b.name, to_string(left), to_string(right)));
      const Function f = [&](Tape& t, const std::vector<Var>& in) { return b.op(t, in[0], in[1]); };
      const Tensor x = random.normal(left);
      const Tensor y = random.uniform(right, 0.5, 2);
      check_gradients(f, {x, y}, random);
      const Shape shape = broadcast_shape("test", left, right);
      const std::vector<double> p = to_doubles(x.expand(shape));
      const std::vector<double> q = to_doubles(y.expand(shape));
      const std::vector<double> out = values(f, {x, y}, DType::kFloat64);
      ASSERT_EQ(out.size(), p.size());
      for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], b.reference(p[i], q[i]));
    }
  }
}

TEST_F(Pointwise, BinaryPrecisionsAndThreads) {
  const std::vector<std::pair<Shape, Shape>> shapes = {
      {{129, 515}, {129, 515}}, {{129, 515}, {515}}, {{129, 515}, {129, 1}}, {{3, 40, 301}, {40, 1}}};
  for (const Binary& b : kBinary) {
    for (const auto& [left, right] : shapes) {
      SCOPED_TRACE(fmt::format("{} {} {}", b.name, to_string(left), to_string(right)));
      check_precisions([&](Tape& t, const std::vector<Var>& in) { return b.op(t, in[0], in[1]); },
                       {random.normal(left), random.uniform(right, 0.5, 2)}, random);
    }
  }
}

TEST_F(Pointwise, TheSameInputTwice) {
  const Function square_by_mul = [](Tape& t, const std::vector<Var>& in) { return mul(t, in[0], in[0]); };
  check_gradients(square_by_mul, {random.normal({3, 5})}, random);
  const Function twice = [](Tape& t, const std::vector<Var>& in) { return add(t, in[0], in[0]); };
  check_gradients(twice, {random.normal({3, 5})}, random);
}

TEST_F(Pointwise, Swiglu) {
  const Function f = [](Tape& t, const std::vector<Var>& in) { return swiglu(t, in[0]); };
  check_gradients(f, {random.normal({2, 3, 14}, 2)}, random);
  check_precisions(f, {random.normal({61, 2 * 333}, 2)}, random);
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
    check_gradients(f, {random.normal({2, 3, 14}, 2)}, random);
    check_precisions(f, {random.normal({61, 2 * 333}, 2)}, random);
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

TEST_F(Pointwise, SoftCap) {
  const Function f = [](Tape& t, const std::vector<Var>& in) { return soft_cap(t, in[0], 3); };
  check_gradients(f, {random.normal({4, 7}, 4)}, random);
  check_precisions(f, {random.normal({61, 333}, 4)}, random);
  const Tensor x = random.normal({5, 6}, 40);
  const std::vector<double> in = to_doubles(x);
  const std::vector<double> out = values(f, {x}, DType::kFloat64);
  for (size_t i = 0; i < in.size(); ++i) EXPECT_NEAR(out[i], 3 * std::tanh(in[i] / 3), 1e-14);
  Tape tape(stream());
  EXPECT_THROW(soft_cap(tape, Var(x), 0), Error);
}

// Elementary functions keep their stated bounds in the compiled kernels, whose compiler may reassociate sums.
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
      // Long enough for whole vectors: every element thrice around.
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
  // The gradient of a chain of activations lives in one tensor.
  const int64_t n = 1 << 20;
  Tape tape(stream());
  const Var x = tape.variable(random.normal({n}, 1, DType::kFloat32));
  Var y = x;
  for (int i = 0; i < 4; ++i) y = relu(tape, y);
  y = add_scalar(tape, y, 1);
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
}

TEST_F(Pointwise, EmptyTensors) {
  for (const Unary& u : kUnary) {
    Tape tape(stream());
    const Var x = tape.variable(Tensor::empty({0, 3}, DType::kFloat32, stream()));
    const Var y = u.op(tape, x);
    EXPECT_EQ(y.shape(), (Shape{0, 3})) << u.name;
    tape.backward(y);
    EXPECT_EQ(tape.gradient(x).shape(), (Shape{0, 3})) << u.name;
  }
  Tape tape(stream());
  const Var x = tape.variable(Tensor::empty({0, 3}, DType::kFloat32, stream()));
  const Var w = tape.variable(random.normal({3}, 1, DType::kFloat32));
  tape.backward(mul(tape, x, w));
  EXPECT_EQ(to_doubles(tape.gradient(w)), (std::vector<double>{0, 0, 0}));
}

}  // namespace
}  // namespace tutti::test
