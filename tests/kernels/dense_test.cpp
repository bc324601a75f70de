// linear, mlp, matmul and the matrix libraries, against reference implementations.
#include "tests/kernels/gradcheck.h"

#include <tutti/kernels/linear.h>
#include <tutti/kernels/matmul.h>
#include <tutti/kernels/mlp.h>
#include "kernels/cpu/blas.h"

#include <array>
#include <string>

namespace tutti::test {
namespace {

class DenseTest : public RandomTest {};

/// activation(x W^T + b) by its definition in fp64.
Tensor reference_linear(const Tensor& x, const Tensor& w, const Tensor& b, Activation activation) {
  const auto xs = to_doubles(x);
  const auto ws = to_doubles(w);
  const auto bs = b.defined() ? to_doubles(b) : std::vector<double>(static_cast<size_t>(w.size(0)));
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

TEST_F(DenseTest, LinearMatchesTheReference) {
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
        expect_close(linear(tape, Var(strided_copy(x)), Var(w), Var(b), activation).value,
                     reference_linear(x, w, b, activation), tolerance, tolerance);
        expect_close(linear(tape, Var(x), Var(w), Var(), activation).value,
                     reference_linear(x, w, {}, activation), tolerance, tolerance);
      }
    }
  }
}

TEST_F(DenseTest, LinearRefusesWrongShapes) {
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

TEST_F(DenseTest, MatmulRefusesWrongShapes) {
  Tape tape(stream());
  const Var a(random.normal({3, 1, 131, 33}));
  const Var b(random.normal({2, 33, 70}));
  EXPECT_THROW(matmul(tape, a, a), Error);
  EXPECT_THROW(matmul(tape, a, Var(b.value.to(DType::kFloat32, stream()))), Error);
  EXPECT_THROW(matmul(tape, Var(random.normal({3})), b), Error);
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
          // Storage is wider than the matrices, so that leading dims differ from sizes.
          const Tensor a = random.normal({ta ? k : m, (ta ? m : k) + 3}, 1, dtype);
          const Tensor b = random.normal({tb ? n : k, (tb ? k : n) + 2}, 1, dtype);
          const DType c_dtype = dtype == DType::kBFloat16 && accumulate ? DType::kFloat32 : dtype;
          const Tensor c = random.normal({m, n + 1}, 1, c_dtype);
          const auto va = to_doubles(a);
          const auto vb = to_doubles(b);
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

Var two_layers(Tape& tape, const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
               Activation activation) {
  return linear(tape, linear(tape, x, w1, b1, activation), w2, b2);
}

/// x, w1, b1, w2 and b2; biases may be undefined.
using Inputs = std::array<Tensor, 5>;

struct Result {
  std::vector<Tensor> tensors;        ///< y and the gradients of x and the parameters
  std::vector<std::string> complete;  ///< parameters in the order in which their gradients become complete
};

class MlpTest : public RandomTest {
 protected:
  Inputs inputs(const Shape& x, int64_t hidden, int64_t outputs, DType dtype, bool first_bias = true,
                bool second_bias = true) {
    return {random.normal(x, 1, dtype), random.normal({hidden, x.back()}, 0.3, dtype),
            first_bias ? random.normal({hidden}, 1, dtype) : Tensor(),
            random.normal({outputs, hidden}, 0.3, dtype),
            second_bias ? random.normal({outputs}, 1, dtype) : Tensor()};
  }

  static Var one_op(Tape& t, const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
                    Activation activation) {
    return mlp(t, x, w1, b1, w2, b2, activation);
  }
  /// Runs two microbatches: the first overwrites the gradients of parameters, the second adds to them.
  /// Without `of_x`, x is a constant.
  template <class Op>
  static Result run(Op op, const Inputs& in, const Tensor& dy, Activation activation, bool of_x = true) {
    std::array<Parameter, 5> parameters;
    for (size_t i = 1; i < 5; ++i) {
      if (in[i].defined()) parameters[i] = parameter_of(in[i], fmt::format("input {}", i));
    }
    Result result;
    for (int pass = 0; pass < 2; ++pass) {
      Tape tape(stream());
      result.complete.clear();
      tape.on_grad_ready([&](Parameter& p) { result.complete.push_back(p.name); });
      const Var x = of_x ? tape.variable(in[0]) : Var(in[0]);
      std::array<Var, 5> v;
      for (size_t i = 1; i < 5; ++i) {
        if (in[i].defined()) v[i] = tape.leaf(parameters[i]);
      }
      const Var y = op(tape, x, v[1], v[2], v[3], v[4], activation);
      result.tensors = {y.value};
      tape.backward(y, dy.clone(stream()));
      if (of_x) result.tensors.push_back(tape.gradient(x));
    }
    for (size_t i = 1; i < 5; ++i) {
      if (in[i].defined()) result.tensors.push_back(parameters[i].grad);
    }
    return result;
  }
};

TEST_F(MlpTest, HasTheBitsOfTwoLinearLayers) {
  struct Sizes {
    Shape x;
    int64_t hidden, outputs;
  };
  for (const Sizes& s :
       {Sizes{{1, 1}, 1, 1}, Sizes{{7}, 5, 3}, Sizes{{3, 17}, 5, 9}, Sizes{{2, 65, 31}, 70, 33},
        Sizes{{257, 64}, 256, 64}, Sizes{{0, 3}, 4, 5}, Sizes{{3, 4}, 0, 2}, Sizes{{3, 4}, 6, 0}}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat64}) {
      for (const Activation activation : kActivations) {
        for (const int biases : {0, 1, 2, 3}) {
          SCOPED_TRACE(fmt::format("{} {} -> {} -> {}, activation {}, biases {}", name(dtype), to_string(s.x),
                                   s.hidden, s.outputs, static_cast<int>(activation), biases));
          const Inputs in = inputs(s.x, s.hidden, s.outputs, dtype, (biases & 1) != 0, (biases & 2) != 0);
          Shape shape = s.x;
          shape.back() = s.outputs;
          const Tensor dy = random.normal(shape, 1, dtype);
          for (const bool of_x : {true, false}) {
            const Result actual = run(one_op, in, dy, activation, of_x);
            const Result expected = run(two_layers, in, dy, activation, of_x);
            ASSERT_EQ(actual.tensors.size(), expected.tensors.size());
            for (size_t i = 0; i < expected.tensors.size(); ++i) {
              expect_same_bits(actual.tensors[i], expected.tensors[i], fmt::format("tensor {}", i));
            }
            EXPECT_EQ(actual.complete, expected.complete) << "gradients become complete in a different order";
          }
        }
      }
    }
  }
}

TEST_F(MlpTest, RefusesWrongShapes) {
  Tape tape(stream());
  const auto make = [&](const Shape& shape, DType dtype = DType::kFloat32) {
    return Var(random.normal(shape, 1, dtype));
  };
  const auto call = [&](const Var& w1, const Var& b1, const Var& w2, const Var& b2) {
    return mlp(tape, make({2, 3}), w1, b1, w2, b2, Activation::kGelu);
  };
  EXPECT_EQ(call(make({4, 3}), make({4}), make({5, 4}), make({5})).shape(), (Shape{2, 5}));
  EXPECT_THROW(call(make({4, 5}), Var(), make({5, 4}), Var()), Error);
  EXPECT_THROW(call(make({4, 3}), make({3}), make({5, 4}), Var()), Error);
  EXPECT_THROW(call(make({4, 3}), Var(), make({5, 3}), Var()), Error);
  EXPECT_THROW(call(make({4, 3}), Var(), make({5, 4}), make({4})), Error);
  EXPECT_THROW(call(make({4, 3}), Var(), make({5, 4}, DType::kFloat64), Var()), Error);
  EXPECT_THROW(call(Var(), Var(), make({5, 4}), Var()), Error);
}

}  // namespace
}  // namespace tutti::test
