// linear, matmul and the library behind them.
#include <tutti/kernels/linear.h>
#include <tutti/kernels/matmul.h>
#include "kernels/cpu/blas.h"

#include <tests/kernels/gradcheck.h>

namespace tutti {
namespace {

using test::expect_close;
using test::expect_same_bits;
using test::stream;

class DenseTest : public test::RandomTest {};

/// x W^T + b and an activation in fp64, one number at a time.
Tensor slow_linear(const Tensor& x, const Tensor& w, const Tensor& b, Activation activation) {
  const auto xs = test::to_doubles(x);
  const auto ws = test::to_doubles(w);
  const auto bs = b.defined() ? test::to_doubles(b) : std::vector<double>(static_cast<size_t>(w.size(0)));
  const auto inputs = static_cast<size_t>(w.size(1));
  std::vector<double> y;
  const auto rows = static_cast<size_t>(numel({x.shape().begin(), x.shape().end() - 1}));
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < bs.size(); ++o) {
      double v = bs[o];
      for (size_t i = 0; i < inputs; ++i) v += xs[r * inputs + i] * ws[o * inputs + i];
      switch (activation) {
        case Activation::kNone:
          break;
        case Activation::kRelu:
          v = std::max(v, 0.0);
          break;
        case Activation::kGelu:
          v *= 0.5 * (1 + std::erf(v / std::sqrt(2.0)));
          break;
        case Activation::kGeluTanh:
          v *= 0.5 * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
          break;
        case Activation::kSilu:
          v /= 1 + std::exp(-v);
          break;
      }
      y.push_back(v);
    }
  }
  Shape shape = x.shape();
  shape.back() = w.size(0);
  return Tensor::from(y, shape, stream());
}

constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh, Activation::kSilu};

TEST_F(DenseTest, LinearMatchesTheSlowOne) {
  for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    const double tolerance = dtype == DType::kFloat64 ? 1e-12 : dtype == DType::kFloat32 ? 2e-5 : 2e-2;
    for (const auto& [rows, inputs, outputs] : {std::array<int64_t, 3>{1, 1, 1},
                                                {3, 17, 5},
                                                {129, 31, 65},
                                                {257, 128, 770},
                                                {0, 3, 4},
                                                {5, 0, 3},
                                                {2, 3, 0}}) {
      for (const Activation activation : kActivations) {
        const Tensor x = random.normal({rows, inputs}, 1, dtype);
        const Tensor w = random.normal({outputs, inputs}, 1 / std::sqrt(double(inputs + 1)), dtype);
        const Tensor b = random.normal({outputs}, 1, dtype);
        Tape tape(stream(), {}, Tape::Mode::kInference);
        SCOPED_TRACE(
            fmt::format("{} {}x{}x{} activation {}", name(dtype), rows, inputs, outputs, int(activation)));
        expect_close(linear(tape, Var(test::strided_copy(x)), Var(w), Var(b), activation).value,
                     slow_linear(x, w, b, activation), tolerance, tolerance);
        expect_close(linear(tape, Var(x), Var(w), Var(), activation).value, slow_linear(x, w, {}, activation),
                     tolerance, tolerance);
      }
    }
  }
}

TEST_F(DenseTest, LinearGradients) {
  for (const Activation activation : kActivations) {
    test::check_gradients(
        [activation](Tape& t, const std::vector<Var>& v) { return linear(t, v[0], v[1], v[2], activation); },
        {random.normal({2, 3, 7}), random.normal({5, 7}), random.normal({5})}, random, {.kinks = true});
  }
  test::check_gradients([](Tape& t, const std::vector<Var>& v) { return linear(t, v[0], v[1], Var()); },
                        {random.normal({7}), random.normal({3, 7})}, random);
}

TEST_F(DenseTest, LinearGradientsOfLowPrecisionMatchFp64) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const double tolerance = dtype == DType::kFloat32 ? 1e-4 : 3e-2;
    const Tensor x = random.normal({141, 70}, 1, dtype);
    const Tensor w = random.normal({90, 70}, 0.1, dtype);
    const Tensor b = random.normal({90}, 1, dtype);
    const Tensor dy = random.normal({141, 90}, 1, dtype);
    const auto gradients = [&](DType d) {
      Parameter pw = test::parameter_of(w.to(d, stream()));
      Parameter pb = test::parameter_of(b.to(d, stream()));
      Tensor dx;
      for (int pass = 0; pass < 2; ++pass) {  // overwrite, then accumulate
        Tape tape(stream());
        const Var vx = tape.variable(x.to(d, stream()));
        const Var y = linear(tape, vx, tape.leaf(pw), tape.leaf(pb), Activation::kGelu);
        tape.backward(y, dy.to(d, stream()).clone(stream()));
        dx = tape.gradient(vx);
      }
      return std::array{dx, pw.grad, pb.grad};
    };
    const auto actual = gradients(dtype);
    const auto expected = gradients(DType::kFloat64);
    EXPECT_EQ(actual[1].dtype(), DType::kFloat32);
    for (size_t i = 0; i < 3; ++i)
      expect_close(actual[i], expected[i], tolerance, tolerance * (i == 0 ? 1 : 30));
  }
}

TEST_F(DenseTest, LinearDoesNotDependOnTheNumberOfThreads) {
  const Tensor x = random.normal({515, 200}, 1, DType::kFloat32);
  const Tensor w = random.normal({900, 200}, 0.1, DType::kFloat32);
  const Tensor b = random.normal({900}, 1, DType::kFloat32);
  const auto run = [&](int threads) {
    ThreadPool pool(threads);
    const Stream s = Stream::inline_on(pool);
    Tape tape(s);
    const Var vx = tape.variable(x);
    const Var vw = tape.variable(w);
    const Var vb = tape.variable(b);
    const Var y = linear(tape, vx, vw, vb, Activation::kGeluTanh);
    tape.backward(y);
    return std::array{y.value, tape.gradient(vx), tape.gradient(vw), tape.gradient(vb)};
  };
  const auto one = run(1);
  for (const int threads : {2, 3}) {
    const auto many = run(threads);
    for (size_t i = 0; i < 4; ++i) expect_same_bits(many[i], one[i]);
  }
}

TEST_F(DenseTest, LinearRefusesWhatDoesNotFit) {
  Tape tape(stream());
  const auto make = [&](const Shape& shape, DType dtype = DType::kFloat32) {
    return Var(random.normal(shape, 1, dtype));
  };
  EXPECT_THROW(linear(tape, make({2, 3}), make({4, 5}), Var()), Error);
  EXPECT_THROW(linear(tape, make({2, 3}), make({4, 3}), make({3})), Error);
  EXPECT_THROW(linear(tape, make({2, 3}), make({4, 3}, DType::kFloat64), Var()), Error);
  EXPECT_THROW(linear(tape, make({2, 3}), make({3}), Var()), Error);
  EXPECT_THROW(linear(tape, Var(), make({4, 3}), Var()), Error);
}

TEST_F(DenseTest, EveryLibraryMultipliesEveryLayout) {
  const cpu::MathLibrary before = cpu::math_library();
  for (const auto library :
       {cpu::MathLibrary::kOneDnn, cpu::MathLibrary::kOpenBlas, cpu::MathLibrary::kOwn}) {
    if (!cpu::has_math_library(library)) continue;
    cpu::set_math_library(library);
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
      for (const int layout : {0, 1, 2, 3}) {
        for (const bool accumulate : {false, true}) {
          const int64_t m = random.integer(1, 150);
          const int64_t n = random.integer(1, 150);
          const int64_t k = random.integer(1, 150);
          const bool ta = (layout & 1) != 0;
          const bool tb = (layout & 2) != 0;
          // Wider storage than the matrices: leading dims differ from sizes.
          const Tensor a = random.normal({ta ? k : m, (ta ? m : k) + 3}, 1, dtype);
          const Tensor b = random.normal({tb ? n : k, (tb ? k : n) + 2}, 1, dtype);
          const DType c_dtype = dtype == DType::kBFloat16 && accumulate ? DType::kFloat32 : dtype;
          const Tensor c = random.normal({m, n + 1}, 1, c_dtype);
          const auto va = test::to_doubles(a);
          const auto vb = test::to_doubles(b);
          const Tensor expected = c.to(DType::kFloat64, stream()).clone(stream());
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t j = 0; j < n; ++j) {
              double sum = 0;
              for (int64_t p = 0; p < k; ++p) {
                sum += va[size_t(ta ? p * (m + 3) + i : i * (k + 3) + p)] *
                       vb[size_t(tb ? j * (k + 2) + p : p * (n + 2) + j)];
              }
              double& out = expected.data<double>()[i * (n + 1) + j];
              out = accumulate ? out + sum : sum;
            }
          }
          cpu::gemm({.m = m,
                     .n = n,
                     .k = k,
                     .dtype = dtype,
                     .a = {a.raw(), a.size(1), ta},
                     .b = {b.raw(), b.size(1), tb},
                     .c = c.raw(),
                     .ldc = n + 1,
                     .c_dtype = c_dtype,
                     .accumulate = accumulate},
                    stream());
          const double tolerance = c_dtype == DType::kBFloat16 ? 1e-2
                                   : dtype == DType::kFloat64  ? 1e-12
                                                               : 1e-4;
          SCOPED_TRACE(
              fmt::format("{} {} {}x{}x{} ta {} tb {}", name(library), name(dtype), m, n, k, ta, tb));
          expect_close(c, expected, tolerance, tolerance * 10);
        }
      }
    }
  }
  cpu::set_math_library(before);
}

TEST_F(DenseTest, MatmulGradientsAndBroadcasting) {
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      const auto f = [ta, tb](Tape& t, const std::vector<Var>& v) { return matmul(t, v[0], v[1], {ta, tb}); };
      const Shape a = ta ? Shape{5, 3} : Shape{3, 5};
      const Shape b = tb ? Shape{4, 5} : Shape{5, 4};
      const auto batched = [](Shape lead, const Shape& matrix) {
        lead.insert(lead.end(), matrix.begin(), matrix.end());
        return lead;
      };
      test::check_gradients(f, {random.normal(a), random.normal(b)}, random);
      test::check_gradients(f, {random.normal(batched({2, 1}, a)), random.normal(batched({3}, b))}, random);
      test::check_gradients(f, {random.normal(a), random.normal(batched({2, 2}, b))}, random);
    }
  }
}

TEST_F(DenseTest, MatmulLowPrecision) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const Tensor a = random.normal({3, 1, 131, 33}, 1, dtype);
    const Tensor b = random.normal({2, 33, 70}, 1, dtype);
    Tape tape(stream(), {}, Tape::Mode::kInference);
    const Tensor wide =
        matmul(tape, Var(a.to(DType::kFloat64, stream())), Var(b.to(DType::kFloat64, stream()))).value;
    expect_close(matmul(tape, Var(a), Var(b)).value, wide, dtype == DType::kFloat32 ? 1e-5 : 1e-2, 1e-3);
    EXPECT_THROW(matmul(tape, Var(a), Var(a)), Error);
    EXPECT_THROW(matmul(tape, Var(a), Var(b.to(DType::kFloat64, stream()))), Error);
    EXPECT_THROW(matmul(tape, Var(random.normal({3}, 1, dtype)), Var(b)), Error);
  }
}

}  // namespace
}  // namespace tutti
