// mlp: two linear layers as one op.
#include <tutti/kernels/mlp.h>

#include <tests/kernels/gradcheck.h>

#include <array>
#include <string>

namespace tutti {
namespace {

using test::stream;

constexpr Activation kActivations[] = {Activation::kNone, Activation::kRelu, Activation::kGelu,
                                       Activation::kGeluTanh, Activation::kSilu};

Var two_layers(Tape& tape, const Var& x, const Var& w1, const Var& b1, const Var& w2, const Var& b2,
               Activation activation) {
  return linear(tape, linear(tape, x, w1, b1, activation), w2, b2);
}

/// x, w1, b1, w2 and b2; biases may be undefined.
using Inputs = std::array<Tensor, 5>;

struct Result {
  std::vector<Tensor> tensors;        ///< y, the gradient of x, those of the parameters
  std::vector<std::string> complete;  ///< parameters in the order in which their gradients are
};

class MlpTest : public test::RandomTest {
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
  /// Two microbatches: gradients of parameters are overwritten, then added to. Without `of_x`, x is a
  /// constant.
  template <class Op>
  static Result run(Op op, const Inputs& in, const Tensor& dy, Activation activation, bool of_x = true) {
    std::array<Parameter, 5> parameters;
    for (size_t i = 1; i < 5; ++i) {
      if (in[i].defined()) parameters[i] = test::parameter_of(in[i], fmt::format("input {}", i));
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

TEST_F(MlpTest, IsBitEqualToTwoLinearLayers) {
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
              test::expect_same_bits(actual.tensors[i], expected.tensors[i], fmt::format("tensor {}", i));
            }
            EXPECT_EQ(actual.complete, expected.complete) << "gradients travel in another order";
          }
        }
      }
    }
  }
}

TEST_F(MlpTest, Gradients) {
  for (const Activation activation : kActivations) {
    test::check_gradients(
        [activation](Tape& t, const std::vector<Var>& v) {
          return mlp(t, v[0], v[1], v[2], v[3], v[4], activation);
        },
        {random.normal({2, 3, 7}), random.normal({5, 7}), random.normal({5}), random.normal({4, 5}),
         random.normal({4})},
        random, {.kinks = true});
  }
  test::check_gradients(
      [](Tape& t, const std::vector<Var>& v) {
        return mlp(t, v[0], v[1], Var(), v[2], Var(), Activation::kGeluTanh);
      },
      {random.normal({7}), random.normal({3, 7}), random.normal({2, 3})}, random);
}

// Weights that serve both layers get the sum of both gradients.
TEST_F(MlpTest, LayersMayShareTheirParameters) {
  test::check_gradients(
      [](Tape& t, const std::vector<Var>& v) {
        return mlp(t, v[0], v[1], v[2], v[1], v[2], Activation::kGeluTanh);
      },
      {random.normal({4, 6}), random.normal({6, 6}), random.normal({6})}, random);
}

TEST_F(MlpTest, RefusesWhatDoesNotFit) {
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
}  // namespace tutti
