// Properties of single ops on CUDA. The gradients and precisions of all ops are tested in ops_test.cpp.
#include "tests/gpu/on_both.h"

#include <tutti/core/parameter.h>
#include <tutti/kernels/cross_entropy.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/norm.h>
#include <tutti/kernels/reduce.h>
#include "kernels/cpu/conv_backends.h"
#include "kernels/cuda/conv.h"

#include <cmath>
#include <limits>

namespace tutti::test {
namespace {

class GpuOpProperties : public GpuTest {};

// The fallback for convolutions without a cuDNN plan.
TEST_F(GpuOpProperties, Im2colConvolutions) {
  const ConvShape s{.n = 3,
                    .h = 11,
                    .w = 8,
                    .c = 6,
                    .o = 10,
                    .oh = 5,
                    .ow = 6,
                    .kh = 3,
                    .kw = 3,
                    .stride = {2, 1},
                    .padding = {1, 0},
                    .dilation = {2, 1},
                    .groups = 2,
                    .dtype = DType::kFloat32};
  const Tensor x = random.normal({s.n, s.h, s.w, s.c}, 1, s.dtype);
  const Tensor w = random.normal({s.o, s.c / s.groups, s.kh, s.kw}, 1, s.dtype);
  const Tensor dy = random.normal({s.n, s.oh, s.ow, s.o}, 1, s.dtype);
  const auto run = [&](const ConvBackend& backend, const Stream& on) {
    const auto to_device = [&](const Tensor& t) { return t.to(s.dtype, on); };
    const Tensor y = Tensor::empty(dy.shape(), s.dtype, on);
    const Tensor dx = Tensor::empty(x.shape(), s.dtype, on);
    const Tensor dw = Tensor::full(w.shape(), 2, s.dtype, on);
    backend.forward(s, to_device(x), to_device(w), y, on);
    backend.backward_data(s, to_device(dy), to_device(w), dx, on);
    backend.backward_weights(s, to_device(dy), to_device(x), dw, GradMode::kAccumulate, on);
    std::vector<Tensor> results;
    for (const Tensor& t : {y, dx, dw}) results.push_back(t.to(s.dtype, stream()));
    return results;
  };
  const std::vector<Tensor> expected = run(cpu::im2col_conv(), stream());
  const std::vector<Tensor> actual = run(cuda::im2col_conv(), gpu());
  for (size_t i = 0; i < expected.size(); ++i) expect_close(actual[i], expected[i], 1e-4, 1e-4);
}

// Sums of squares would lose precision by cancellation.
TEST_F(GpuOpProperties, BatchNormFarFromZero) {
  const Tensor x = random.uniform({20000, 3}, 1000, 1001, DType::kFloat32);
  const Tensor ones = Tensor::full({3}, 1, DType::kFloat32, stream());
  const Tensor zeros = Tensor::zeros({3}, DType::kFloat32, stream());
  const auto run = [&](const Stream& on, DType dtype) {
    Tape tape(on, {.training = true}, Tape::Mode::kInference);
    const auto to_device = [&](const Tensor& t) { return Var(t.to(dtype, on)); };
    return batch_norm(tape, to_device(x), to_device(ones), to_device(zeros), to_device(zeros),
                      to_device(ones))
        .value.to(DType::kFloat64, stream());
  };
  expect_close(run(gpu(), DType::kFloat32), run(stream(), DType::kFloat64), 1e-3, 1e-3);
}

// bf16 products are added in fp32 to the fp32 gradients of parameters.
TEST_F(GpuOpProperties, Fp32GradientsOfBf16Weights) {
  const Tensor x = random.normal({301, 72}, 1, DType::kBFloat16);
  const Tensor w = random.normal({40, 72}, 0.1, DType::kBFloat16);
  const Tensor dy = random.normal({301, 40}, 1, DType::kBFloat16);
  const auto gradient = [&](const Stream& on, DType dtype, DType grad) {
    Parameter weight;
    weight.shape = {40, 72};
    weight.value = w.to(dtype, on);
    weight.grad = Tensor::full({40, 72}, 0, grad, on);
    for (int step = 0; step < 2; ++step) {
      Tape tape(on);
      tape.backward(linear(tape, Var(x.to(dtype, on)), tape.leaf(weight), Var{}), dy.to(dtype, on));
    }
    return weight.grad.to(DType::kFloat64, stream());
  };
  expect_close(gradient(gpu(), DType::kBFloat16, DType::kFloat32),
               gradient(stream(), DType::kFloat64, DType::kFloat64), 1e-5, 1e-3);
}

TEST_F(GpuOpProperties, NanIsTheLargest) {
  Tensor x = random.normal({5, 2000}, 1, DType::kFloat32);
  x.data<float>()[2 * 2000 + 1234] = std::numeric_limits<float>::quiet_NaN();
  Tape tape(gpu());
  const Tensor y =
      max(tape, Var(x.to(DType::kFloat32, gpu())), {1}, false).value.to(DType::kFloat32, stream());
  for (int64_t r = 0; r < 5; ++r) EXPECT_EQ(std::isnan(y.data<float>()[r]), r == 2);
}

TEST_F(GpuOpProperties, CrossEntropyEvaluate) {
  const Tensor logits = random.normal({301, 77}, 2);
  const Tensor targets = random.integers({301}, -1, 76);
  const RowEvaluation expected = cross_entropy_evaluate(stream(), logits, targets);
  const RowEvaluation actual = cross_entropy_evaluate(gpu(), logits.to(DType::kFloat64, gpu()), targets);
  EXPECT_NEAR(actual.loss, expected.loss, 1e-9 * std::abs(expected.loss));
  EXPECT_EQ(actual.correct, expected.correct);
  EXPECT_EQ(actual.count, expected.count);
}

TEST_F(GpuOpProperties, WrongTargetMakesTheLossNan) {
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
