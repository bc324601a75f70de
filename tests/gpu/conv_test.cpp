#include "tests/gpu/on_both.h"

#include <tutti/kernels/conv.h>
#include "kernels/cpu/conv_backends.h"
#include "kernels/cuda/conv.h"

namespace tutti::test {
namespace {

class GpuConv : public GpuTest {};

struct Case {
  Shape x;  // NHWC
  Shape w;
  Conv2dOptions options;
};

std::vector<Case> cases() {
  std::vector<Case> all{
      {{2, 9, 11, 3}, {5, 3, 3, 3}, {.padding = {1, 1}}},
      {{3, 8, 8, 16}, {24, 16, 1, 1}, {}},
      {{2, 17, 13, 8}, {16, 8, 3, 3}, {.stride = {2, 2}, .padding = {1, 1}}},
      {{2, 33, 31, 3}, {64, 3, 7, 7}, {.stride = {2, 2}, .padding = {3, 3}}},
      {{2, 14, 14, 64}, {128, 64, 1, 1}, {.stride = {2, 2}}},
      {{1, 12, 15, 12}, {8, 6, 3, 3}, {.padding = {2, 2}, .dilation = {2, 2}, .groups = 2}},
      {{2, 10, 10, 8}, {8, 1, 3, 3}, {.padding = {1, 1}, .groups = 8}},
      {{2, 7, 19, 5}, {7, 5, 2, 5}, {.stride = {1, 3}, .padding = {0, 2}, .dilation = {3, 1}}},
  };
  const size_t count = all.size();
  all.reserve(2 * count);
  for (size_t i = 0; i < count; ++i) {
    Case turned = all[i];
    const Shape& s = all[i].x;
    turned.x = {s[0], s[3], s[1], s[2]};
    turned.options.layout = ImageLayout::kNchw;
    all.push_back(turned);
  }
  return all;
}

TEST_F(GpuConv, AsOnTheCpu) {
  for (const Case& c : cases()) {
    SCOPED_TRACE(fmt::format("images {} filters {}", to_string(c.x), to_string(c.w)));
    const Tensor b = random.normal({c.w[0]});
    compare([&](Tape& t, const std::vector<Var>& v) { return conv2d(t, v[0], v[1], v[2], c.options); },
            {random.normal(c.x), random.normal(c.w, 0.1), b});
  }
}

TEST_F(GpuConv, AddsToGradients) {
  compare(
      [](Tape& t, const std::vector<Var>& v) {
        const Conv2dOptions options{.padding = {1, 1}};
        return conv2d(t, conv2d(t, v[0], v[1], Var{}, options), v[1], Var{}, options);
      },
      {random.normal({2, 9, 7, 8}), random.normal({8, 8, 3, 3}, 0.1)}, {.fp32 = 4e-5, .bf16 = 4e-2});
}

TEST_F(GpuConv, NoImages) {
  compare([](Tape& t, const std::vector<Var>& v) { return conv2d(t, v[0], v[1], Var{}, {}); },
          {Tensor::empty({0, 5, 5, 4}, DType::kFloat64, stream()), random.normal({3, 4, 3, 3})});
}

// What cuDNN has no plan for, in the dtypes that it usually has one for.
TEST_F(GpuConv, UnfoldedPatches) {
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
    const auto here = [&](const Tensor& t) { return t.to(s.dtype, on); };
    const Tensor y = Tensor::empty(dy.shape(), s.dtype, on);
    const Tensor dx = Tensor::empty(x.shape(), s.dtype, on);
    const Tensor dw = Tensor::full(w.shape(), 2, s.dtype, on);
    backend.forward(s, here(x), here(w), y, on);
    backend.backward_data(s, here(dy), here(w), dx, on);
    backend.backward_weights(s, here(dy), here(x), dw, GradMode::kAccumulate, on);
    std::vector<Tensor> results;
    for (const Tensor& t : {y, dx, dw}) results.push_back(t.to(s.dtype, stream()));
    return results;
  };
  const std::vector<Tensor> expected = run(cpu::im2col_conv(), stream());
  const std::vector<Tensor> actual = run(cuda::unfolded_conv(), gpu());
  for (size_t i = 0; i < expected.size(); ++i) expect_close(actual[i], expected[i], 1e-4, 1e-4);
}

}  // namespace
}  // namespace tutti::test
