#include "tests/gpu/on_both.h"

#include <tutti/kernels/norm.h>

namespace tutti::test {
namespace {

class GpuBatchNorm : public GpuTest {};

/// With ReLU no sum is near zero, where rounding would decide: the residual is far from it on either side.
std::vector<Tensor> inputs(Random& random, const Shape& shape, int64_t channels, bool relu) {
  std::vector<Tensor> all{random.normal(shape, 2), random.normal({channels}), random.normal({channels}),
                          random.normal({channels}), random.uniform({channels}, 0.5, 2)};
  if (relu) {
    const Tensor far = random.uniform(shape, 20, 25);
    for (double& value : far.span<double>()) value *= random.integer(0, 1) == 0 ? -1 : 1;
    all.push_back(far);
  } else if (random.integer(0, 1) == 1) {
    all.push_back(random.normal(shape));
  }
  return all;
}

// Channels in whole packs and not, one column and several blocks of columns, one chunk of rows and several.
TEST_F(GpuBatchNorm, AsOnTheCpu) {
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    for (const Shape& shape : {Shape{3, 5, 7, 64}, Shape{2, 3, 3, 17}, Shape{40, 12}, Shape{8, 33, 31, 8},
                               Shape{5, 40, 1, 9}, Shape{2, 3, 70, 20}, Shape{301, 1}}) {
      const int64_t channels = layout == ImageLayout::kNhwc || shape.size() == 2 ? shape.back() : shape[1];
      for (const bool training : {true, false}) {
        for (const bool relu : {true, false}) {
          SCOPED_TRACE(fmt::format("{} of {} {} {}", layout == ImageLayout::kNhwc ? "NHWC" : "NCHW",
                                   to_string(shape), training ? "training" : "", relu ? "relu" : ""));
          compare(
              [&](Tape& t, const std::vector<Var>& v) {
                return batch_norm(t, v[0], v[1], v[2], v[3], v[4], {.layout = layout, .relu = relu},
                                  v.size() > 5 ? v[5] : Var{});
              },
              inputs(random, shape, channels, relu), {.fp32 = 1e-4, .bf16 = 4e-2, .fp64 = 1e-10},
              {.training = training, .batch_share = 0.5});
        }
      }
    }
  }
}

// Large offsets would cancel in sums of squares.
TEST_F(GpuBatchNorm, FarFromZero) {
  const Tensor x = random.uniform({20000, 3}, 1000, 1001, DType::kFloat32);
  const Tensor ones = Tensor::full({3}, 1, DType::kFloat32, stream());
  const Tensor zeros = Tensor::zeros({3}, DType::kFloat32, stream());
  const auto run = [&](const Stream& on, DType dtype) {
    Tape tape(on, {.training = true}, Tape::Mode::kInference);
    const auto there = [&](const Tensor& t) { return Var(t.to(dtype, on)); };
    return batch_norm(tape, there(x), there(ones), there(zeros), there(zeros), there(ones))
        .value.to(DType::kFloat64, stream());
  };
  expect_close(run(gpu(), DType::kFloat32), run(stream(), DType::kFloat64), 1e-3, 1e-3);
}

}  // namespace
}  // namespace tutti::test
