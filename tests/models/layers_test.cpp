#include <tutti/models/layers.h>

#include <tests/kernels/gradcheck.h>

namespace tutti {
namespace {

using test::stream;

class LayersTest : public test::RandomTest {
 protected:
  /// Sets random weights and gradients of a layer.
  void fill(Linear& layer) {
    for (Parameter* p : {&layer.weight, &layer.bias}) {
      p->value = random.normal(p->shape, 0.5, DType::kFloat32);
      p->grad = Tensor::zeros(p->shape, DType::kFloat32, stream());
    }
  }
  static Linear layer(int64_t inputs, int64_t outputs, Activation activation, bool bias = true) {
    return Linear({.inputs = inputs, .outputs = outputs, .bias = bias, .activation = activation});
  }
  /// y and the gradients of x and of all parameters.
  static std::vector<Tensor> run(Linear& first, Linear& second, const Tensor& x, bool paired) {
    for (Linear* l : {&first, &second}) l->weight.grad_defined = l->bias.grad_defined = false;
    Tape tape(stream());
    const Var in = tape.variable(x);
    const Var y = paired ? call_pair(tape, first, second, in) : second(tape, first(tape, in));
    tape.backward(y);
    std::vector<Tensor> all{y.value, tape.gradient(in)};
    for (const Linear* l : {&first, &second}) {
      all.push_back(l->weight.grad.clone(stream()));
      if (l->has_bias()) all.push_back(l->bias.grad.clone(stream()));
    }
    return all;
  }
};

TEST_F(LayersTest, PairsOfLinearLayersMatchSeparateLayers) {
  for (const Activation second_activation : {Activation::kNone, Activation::kSilu}) {
    for (const bool bias : {true, false}) {
      Linear first = layer(13, 21, Activation::kGeluTanh, bias);
      Linear second = layer(21, 6, second_activation);
      fill(first);
      fill(second);
      const Tensor x = random.normal({9, 13}, 1, DType::kFloat32);
      const std::vector<Tensor> expected = run(first, second, x, false);
      const std::vector<Tensor> actual = run(first, second, x, true);
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t i = 0; i < actual.size(); ++i) {
        test::expect_same_bits(actual[i], expected[i], fmt::format("tensor {}", i));
      }
    }
  }
}

TEST_F(LayersTest, PairsRunTheHooksOfBoth) {
  for (const bool of_first : {true, false}) {
    Linear first = layer(4, 8, Activation::kGeluTanh);
    Linear second = layer(8, 3, Activation::kNone);
    fill(first);
    fill(second);
    const Tensor x = random.normal({2, 4}, 1, DType::kFloat32);
    const std::vector<Tensor> expected = run(first, second, x, true);
    std::string seen;
    const auto note = [&](char c) { return [&seen, c](Module&) { seen += c; }; };
    (of_first ? first : second).add_hooks({note('f'), note('g'), note('b'), note('c')});
    const std::vector<Tensor> actual = run(first, second, x, true);
    EXPECT_EQ(seen, "fgbc");
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      test::expect_same_bits(actual[i], expected[i], fmt::format("tensor {}", i));
    }
  }
}

}  // namespace
}  // namespace tutti
