#include "tests/gpu/on_both.h"

#include <tutti/core/parameter.h>
#include <tutti/kernels/linear.h>
#include <tutti/kernels/matmul.h>
#include <tutti/kernels/mlp.h>
#include <tutti/kernels/pointwise.h>

#include <cmath>

namespace tutti::test {
namespace {

class GpuDense : public GpuTest {};

TEST_F(GpuDense, Linear) {
  // Odd sizes with unaligned rows, GPT's widths, one row, and some that are large enough to be measured.
  const int64_t rows = random.integer(2, 300);
  for (const auto& [batch, inputs, outputs] : {std::array<int64_t, 3>{1, 1, 1},
                                               {3, 17, 5},
                                               {rows, 33, 65},
                                               {rows, 768, 2304},
                                               {4096, 256, 1000},
                                               {1, 768, 769},
                                               {0, 8, 16}}) {
    const Tensor x = random.normal({batch, inputs});
    const Tensor w = random.normal({outputs, inputs}, 1 / std::sqrt(static_cast<double>(inputs)));
    const Tensor b = random.normal({outputs});
    // Among millions of sums some are so near zero that rounding decides on which side ReLU finds them.
    const Tensor far = random.uniform({outputs}, 20, 25);
    for (double& value : far.span<double>()) value *= random.integer(0, 1) == 0 ? -1 : 1;
    const bool many = batch * outputs > 10000;
    for (const Activation activation : {Activation::kNone, Activation::kRelu, Activation::kGelu,
                                        Activation::kGeluTanh, Activation::kSilu}) {
      SCOPED_TRACE(
          fmt::format("{} x {} -> {}, activation {}", batch, inputs, outputs, static_cast<int>(activation)));
      compare([&](Tape& t, const std::vector<Var>& v) { return linear(t, v[0], v[1], v[2], activation); },
              {x, w, activation == Activation::kRelu ? far : b});
      if (activation == Activation::kRelu && many) continue;
      compare([&](Tape& t, const std::vector<Var>& v) { return linear(t, v[0], v[1], Var{}, activation); },
              {x, w});
    }
  }
}

// Widths that cuBLASLt's GELU gradient takes, widths that it does not, and GPT's, which are measured.
TEST_F(GpuDense, Mlp) {
  for (const auto& [batch, inputs, hidden, outputs] : {std::array<int64_t, 4>{1, 1, 1, 1},
                                                       {3, 17, 5, 9},
                                                       {random.integer(2, 300), 64, 256, 64},
                                                       {random.integer(2, 300), 40, 104, 33},
                                                       {random.integer(2, 300), 33, 100, 40},
                                                       {2048, 768, 3072, 768},
                                                       {0, 8, 16, 8}}) {
    const Tensor x = random.normal({batch, inputs});
    const Tensor w1 = random.normal({hidden, inputs}, 1 / std::sqrt(static_cast<double>(inputs)));
    const Tensor b1 = random.normal({hidden});
    const Tensor w2 = random.normal({outputs, hidden}, 1 / std::sqrt(static_cast<double>(hidden)));
    const Tensor b2 = random.normal({outputs});
    for (const Activation activation :
         {Activation::kNone, Activation::kGelu, Activation::kGeluTanh, Activation::kSilu}) {
      SCOPED_TRACE(fmt::format("{} x {} -> {} -> {}, activation {}", batch, inputs, hidden, outputs,
                               static_cast<int>(activation)));
      compare([&](Tape& t,
                  const std::vector<Var>& v) { return mlp(t, v[0], v[1], v[2], v[3], v[4], activation); },
              {x, w1, b1, w2, b2}, {.fp32 = 4e-5, .bf16 = 4e-2});
      compare([&](Tape& t,
                  const std::vector<Var>& v) { return mlp(t, v[0], v[1], Var{}, v[2], Var{}, activation); },
              {x, w1, w2}, {.fp32 = 4e-5, .bf16 = 4e-2});
    }
  }
}

// The second use adds to what the first has written, for weights and inputs.
TEST_F(GpuDense, AddsToGradients) {
  for (const int64_t n : {24, 37, 640}) {
    compare(
        [](Tape& t, const std::vector<Var>& v) {
          return linear(t, linear(t, v[0], v[1], v[2], Activation::kSilu), v[1], v[2]);
        },
        {random.normal({51, n}), random.normal({n, n}, 1 / std::sqrt(static_cast<double>(n))),
         random.normal({n})},
        {.fp32 = 4e-5, .bf16 = 4e-2});
  }
}

// Products of bf16 are added in fp32 to gradients in fp32, as parameters have them.
TEST_F(GpuDense, WideGradientsOfNarrowWeights) {
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

TEST_F(GpuDense, Matmul) {
  struct Case {
    Shape a, b;
    MatmulOptions options;
  };
  for (const Case& c :
       {Case{{5, 7}, {7, 3}, {}}, Case{{64, 128}, {96, 128}, {.transpose_b = true}},
        Case{{128, 33}, {128, 65}, {.transpose_a = true}},
        Case{{9, 5}, {11, 9}, {.transpose_a = true, .transpose_b = true}},
        Case{{3, 4, 17, 24}, {3, 4, 24, 31}, {}}, Case{{2, 1, 17, 24}, {3, 31, 24}, {.transpose_b = true}},
        Case{{6, 5, 8}, {8, 7}, {}}, Case{{5, 8}, {4, 6, 8, 7}, {}}, Case{{2, 0, 3}, {2, 3, 4}, {}},
        Case{{2, 5, 0}, {2, 0, 4}, {}}, Case{{512, 512}, {512, 512}, {}}}) {
    SCOPED_TRACE(fmt::format("{} and {}", to_string(c.a), to_string(c.b)));
    compare([&](Tape& t, const std::vector<Var>& v) { return matmul(t, v[0], v[1], c.options); },
            {random.normal(c.a), random.normal(c.b)});
  }
}

TEST_F(GpuDense, TensorsThatAreNotContiguous) {
  compare(
      [](Tape& t, const std::vector<Var>& v) {
        const Var turned(v[0].value.transpose(0, 1));
        return linear(t, turned, v[1], v[2], Activation::kRelu);
      },
      {random.normal({24, 31}), random.normal({16, 24}), random.normal({16})});
}

}  // namespace
}  // namespace tutti::test
