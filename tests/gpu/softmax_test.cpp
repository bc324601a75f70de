#include "tests/gpu/on_both.h"

#include <tutti/kernels/cross_entropy.h>
#include <tutti/kernels/softmax.h>

namespace tutti::test {
namespace {

class GpuSoftmax : public GpuTest {};

TEST_F(GpuSoftmax, SoftmaxAndItsLogarithm) {
  for (const Shape& shape : {Shape{5}, Shape{33, 7}, Shape{2, 9, 1000}, Shape{17, 5003}, Shape{3, 50304}}) {
    SCOPED_TRACE(to_string(shape));
    // Where one element of the only row has nearly all of the weight, all gradients are rounding.
    const double spread = shape.size() == 1 ? 1 : 3;
    compare([](Tape& t, const std::vector<Var>& v) { return softmax(t, v[0]); },
            {random.normal(shape, spread)});
    compare([](Tape& t, const std::vector<Var>& v) { return log_softmax(t, v[0]); },
            {random.normal(shape, spread)});
  }
}

TEST_F(GpuSoftmax, CrossEntropy) {
  for (const DType index : {DType::kInt32, DType::kInt64}) {
    for (const int64_t classes : {3, 1000, 50304}) {
      for (const double smoothing : {0.0, 0.1}) {
        SCOPED_TRACE(fmt::format("{} classes, smoothing {}", classes, smoothing));
        const Tensor logits = random.normal({2, 19, classes}, 3);
        // -1 is ignored.
        const Tensor targets = random.integers({2, 19}, -1, classes - 1, index);
        const CrossEntropyOptions options{.label_smoothing = smoothing, .scale = 1.0 / 38};
        compare([&](Tape& t, const std::vector<Var>& v) { return cross_entropy(t, v[0], targets, options); },
                {logits});
      }
    }
  }
}

TEST_F(GpuSoftmax, Evaluate) {
  const Tensor logits = random.normal({301, 77}, 2);
  const Tensor targets = random.integers({301}, -1, 76);
  const RowEvaluation expected = cross_entropy_evaluate(stream(), logits, targets);
  const RowEvaluation actual = cross_entropy_evaluate(gpu(), logits.to(DType::kFloat64, gpu()), targets);
  EXPECT_NEAR(actual.loss, expected.loss, 1e-9 * std::abs(expected.loss));
  EXPECT_EQ(actual.correct, expected.correct);
  EXPECT_EQ(actual.count, expected.count);
}

TEST_F(GpuSoftmax, AWrongTargetMakesTheLossNaN) {
  const Tensor logits = random.normal({4, 5}, 1, DType::kFloat32).to(DType::kFloat32, gpu());
  const Tensor targets = Tensor::from<int32_t>(std::vector<int32_t>{0, 5, 1, 2}, {4}, gpu());
  Tape tape(gpu());
  const Var x = tape.variable(logits);
  const Var loss = cross_entropy(tape, x, targets);
  EXPECT_TRUE(std::isnan(loss.value.item()));
  tape.backward(loss);
  const Tensor gradient = tape.gradient(x).to(DType::kFloat64, stream());
  EXPECT_TRUE(std::isnan(gradient.select(0, 1).select(0, 0).item()));
  EXPECT_FALSE(std::isnan(gradient.select(0, 0).select(0, 0).item()));
}

}  // namespace
}  // namespace tutti::test
