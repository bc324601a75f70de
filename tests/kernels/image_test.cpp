// Convolutions and pools against reference implementations.
#include "tests/kernels/op_check.h"

#include <tutti/kernels/conv.h>
#include <tutti/kernels/pool.h>
#include "kernels/cpu/blas.h"

#include <cmath>
#include <limits>

namespace tutti::test {
namespace {

class ConvTest : public RandomTest {};

/// A convolution of NHWC images by its definition in fp64.
Tensor reference_conv(const Tensor& x, const Tensor& w, const Conv2dOptions& o) {
  const auto xs = to_doubles(x);
  const auto ws = to_doubles(w);
  const int64_t h = x.size(1);
  const int64_t width = x.size(2);
  const int64_t c = x.size(3);
  const int64_t cg = c / o.groups;
  const int64_t kh = w.size(2);
  const int64_t kw = w.size(3);
  const int64_t oh = (h + 2 * o.padding[0] - o.dilation[0] * (kh - 1) - 1) / o.stride[0] + 1;
  const int64_t ow = (width + 2 * o.padding[1] - o.dilation[1] * (kw - 1) - 1) / o.stride[1] + 1;
  const int64_t outputs = w.size(0);
  std::vector<double> y;
  for (int64_t n = 0; n < x.size(0); ++n) {
    for (int64_t i = 0; i < oh; ++i) {
      for (int64_t j = 0; j < ow; ++j) {
        for (int64_t k = 0; k < outputs; ++k) {
          const int64_t group = k / (outputs / o.groups);
          double sum = 0;
          for (int64_t a = 0; a < kh; ++a) {
            for (int64_t b = 0; b < kw; ++b) {
              const int64_t r = i * o.stride[0] - o.padding[0] + a * o.dilation[0];
              const int64_t s = j * o.stride[1] - o.padding[1] + b * o.dilation[1];
              if (r < 0 || r >= h || s < 0 || s >= width) continue;
              for (int64_t q = 0; q < cg; ++q) {
                sum += xs[size_t(((n * h + r) * width + s) * c + group * cg + q)] *
                       ws[size_t(((k * cg + q) * kh + a) * kw + b)];
              }
            }
          }
          y.push_back(sum);
        }
      }
    }
  }
  return Tensor::from(y, {x.size(0), oh, ow, outputs}, stream());
}

struct Convolution {
  int64_t n, h, w, c, o, kh, kw;
  Conv2dOptions options;
};
const Convolution kConvolutions[] = {
    {1, 1, 1, 1, 1, 1, 1, {}},
    {3, 7, 5, 3, 4, 3, 3, {.padding = {1, 1}}},
    {5, 9, 8, 4, 6, 3, 2, {.stride = {2, 3}, .padding = {1, 0}}},
    {2, 8, 9, 6, 4, 3, 3, {.padding = {2, 1}, .dilation = {2, 1}, .groups = 2}},
    {19, 6, 6, 16, 32, 1, 1, {.stride = {2, 2}}},
    {4, 11, 11, 8, 8, 3, 3, {.stride = {2, 2}, .padding = {1, 1}, .groups = 8}},
};

TEST_F(ConvTest, MatchesTheReferenceOnEveryLibrary) {
  const cpu::MathLibrary before = cpu::math_library();
  for (const auto library : {cpu::MathLibrary::kOneDnn, cpu::MathLibrary::kOwn}) {
    if (!cpu::has_math_library(library)) continue;
    cpu::set_math_library(library);
    for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
      const double tolerance = dtype == DType::kFloat64 ? 1e-12 : dtype == DType::kFloat32 ? 1e-5 : 2e-2;
      for (const Convolution& c : kConvolutions) {
        const Tensor x = random.normal({c.n, c.h, c.w, c.c}, 1, dtype);
        const Tensor w = random.normal({c.o, c.c / c.options.groups, c.kh, c.kw}, 0.3, dtype);
        const Tensor expected = reference_conv(x, w, c.options);
        Tape tape(stream(), {}, Tape::Mode::kInference);
        SCOPED_TRACE(fmt::format("{} {} images {}", name(library), name(dtype), to_string(x.shape())));
        expect_close(conv2d(tape, Var(strided_copy(x)), Var(w), Var(), c.options).value, expected, tolerance,
                     tolerance);
        Conv2dOptions nchw = c.options;
        nchw.layout = ImageLayout::kNchw;
        expect_close(conv2d(tape, Var(x.permute({0, 3, 1, 2})), Var(w), Var(), nchw).value,
                     expected.permute({0, 3, 1, 2}), tolerance, tolerance);
      }
    }
  }
  cpu::set_math_library(before);
}

TEST_F(ConvTest, FilterGradientsAccumulate) {
  for (const auto& [size, channels] : {std::pair<int64_t, int64_t>{4, 5}, {9, 16}, {21, 32}}) {
    const Tensor x = random.normal({5, size, size, channels}, 1, DType::kFloat32);
    Parameter once = parameter_of(random.normal({32, channels, 3, 3}, 0.1, DType::kFloat32));
    Parameter twice = parameter_of(once.value);
    for (Parameter* p : {&once, &twice, &twice}) {
      Tape tape(stream());
      tape.backward(conv2d(tape, Var(x), tape.leaf(*p), Var(), {.padding = {1, 1}}));
    }
    const Tensor doubled = Tensor::zeros(once.grad.shape(), DType::kFloat32, stream());
    add_in_place(doubled, once.grad, stream());
    add_in_place(doubled, once.grad, stream());
    expect_close(twice.grad, doubled, 1e-6, 1e-4);
  }
}

TEST_F(ConvTest, RefusesWrongShapes) {
  Tape tape(stream());
  const auto make = [&](const Shape& shape) { return Var(random.normal(shape)); };
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 3}), make({2, 4, 3, 3}), Var()), Error);
  EXPECT_THROW(conv2d(tape, make({1, 2, 2, 3}), make({2, 3, 3, 3}), Var()), Error);
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 3}), make({2, 3, 3, 3}), make({3})), Error);
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 3}), make({2, 3, 3, 3}), Var(), {.stride = {0, 1}}), Error);
  EXPECT_THROW(conv2d(tape, make({4, 4, 3}), make({2, 3, 3, 3}), Var()), Error);
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 4}), make({3, 2, 3, 3}), Var(), {.groups = 2}), Error);
}

class Pool : public RandomTest {};

struct Window {
  std::array<int64_t, 2> size, kernel, stride, padding;
};

const Window kWindows[] = {{{4, 6}, {2, 2}, {0, 0}, {0, 0}}, {{7, 5}, {3, 3}, {2, 2}, {1, 1}},
                           {{7, 8}, {3, 2}, {1, 3}, {1, 0}}, {{5, 5}, {2, 2}, {3, 3}, {0, 0}},
                           {{3, 4}, {3, 4}, {1, 1}, {0, 0}}, {{9, 6}, {4, 4}, {2, 1}, {2, 2}}};

Pool2dOptions options_of(const Window& c, ImageLayout layout, bool count_padding = true) {
  return {.kernel = c.kernel,
          .stride = c.stride,
          .padding = c.padding,
          .layout = layout,
          .count_padding = count_padding};
}

Shape image_shape(const Window& c, ImageLayout layout, int64_t images = 2, int64_t channels = 3) {
  return layout == ImageLayout::kNhwc ? Shape{images, c.size[0], c.size[1], channels}
                                      : Shape{images, channels, c.size[0], c.size[1]};
}

/// The definition for (N, H, W, C): the maximum or the mean of each window (with padding as zeros or without
/// it).
std::vector<double> reference(const Tensor& x, const Window& c, bool take_max, bool count_padding) {
  std::vector<double> result;
  const auto at = to_doubles(x);
  const int64_t h = x.size(1);
  const int64_t w = x.size(2);
  const int64_t channels = x.size(3);
  const int64_t sh = c.stride[0] == 0 ? c.kernel[0] : c.stride[0];
  const int64_t sw = c.stride[1] == 0 ? c.kernel[1] : c.stride[1];
  for (int64_t n = 0; n < x.size(0); ++n) {
    for (int64_t top = -c.padding[0]; top + c.kernel[0] <= h + c.padding[0]; top += sh) {
      for (int64_t left = -c.padding[1]; left + c.kernel[1] <= w + c.padding[1]; left += sw) {
        for (int64_t k = 0; k < channels; ++k) {
          double largest = -std::numeric_limits<double>::infinity();
          double sum = 0;
          double count = 0;
          for (int64_t i = std::max<int64_t>(0, top); i < std::min(h, top + c.kernel[0]); ++i) {
            for (int64_t j = std::max<int64_t>(0, left); j < std::min(w, left + c.kernel[1]); ++j) {
              const double v = at[static_cast<size_t>(((n * h + i) * w + j) * channels + k)];
              largest = std::max(largest, v);
              sum += v;
              count += 1;
            }
          }
          result.push_back(
              take_max ? largest
                       : sum / (count_padding ? static_cast<double>(c.kernel[0] * c.kernel[1]) : count));
        }
      }
    }
  }
  return result;
}

TEST_F(Pool, Values) {
  for (const Window& c : kWindows) {
    for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
      for (const bool count_padding : {true, false}) {
        const Tensor x = random.normal(image_shape(c, layout));
        const Pool2dOptions options = options_of(c, layout, count_padding);
        const Function f_max = [&](Tape& t, const std::vector<Var>& v) {
          return max_pool2d(t, v[0], options);
        };
        const Function f_avg = [&](Tape& t, const std::vector<Var>& v) {
          return avg_pool2d(t, v[0], options);
        };
        const bool last = layout == ImageLayout::kNhwc;
        const auto nhwc = [&](const Tensor& t) { return last ? t : t.permute({0, 2, 3, 1}); };
        for (const bool take_max : {true, false}) {
          const Function& f = take_max ? f_max : f_avg;
          Tape tape(stream());
          const auto out = to_doubles(nhwc(f(tape, {Var(x)}).value));
          const auto expected = reference(nhwc(x), c, take_max, count_padding);
          ASSERT_EQ(out.size(), expected.size());
          for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected[i], 1e-14);
        }
      }
    }
  }
}

TEST_F(Pool, GlobalAverage) {
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    const Window c{{3, 5}, {}, {}, {}};
    const Tensor x = random.normal(image_shape(c, layout));
    Tape tape(stream());
    const Tensor y = global_avg_pool(tape, Var(x), layout).value;
    ASSERT_EQ(y.shape(), (Shape{2, 3}));
    const auto in = to_doubles(layout == ImageLayout::kNhwc ? x : x.permute({0, 2, 3, 1}));
    for (size_t n = 0; n < 2; ++n) {
      for (size_t k = 0; k < 3; ++k) {
        double sum = 0;
        for (size_t p = 0; p < 15; ++p) sum += in[(n * 15 + p) * 3 + k];
        EXPECT_NEAR(to_doubles(y)[n * 3 + k], sum / 15, 1e-14);
      }
    }
  }
}

TEST_F(Pool, TiesInfinityAndNan) {
  const double nan = std::nan("");
  const double inf = std::numeric_limits<double>::infinity();
  // Four windows: a tie, all -infinity, NaN first, NaN last.
  const Tensor x = Tensor::from(std::vector<double>{3, 3, -inf, -inf, nan, 1, 1, 2,  //
                                                    1, 3, -inf, -inf, 5, 1, 7, nan},
                                {1, 2, 8, 1}, stream());
  Tape tape(stream());
  const Var in = tape.variable(x);
  const Var y = max_pool2d(tape, in);
  tape.backward(y);
  const auto out = to_doubles(y.value);
  EXPECT_EQ(out[0], 3);
  EXPECT_EQ(out[1], -inf);
  EXPECT_TRUE(std::isnan(out[2]));
  EXPECT_TRUE(std::isnan(out[3]));
  EXPECT_EQ(to_doubles(tape.gradient(in)),
            (std::vector<double>{1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}));
}

TEST_F(Pool, Errors) {
  Tape tape(stream());
  const Var x(random.normal({1, 4, 4, 2}));
  EXPECT_THROW(max_pool2d(tape, Var(random.normal({4, 4, 2}))), Error);
  EXPECT_THROW(max_pool2d(tape, x, {.kernel = {5, 2}}), Error);
  EXPECT_THROW(max_pool2d(tape, x, {.kernel = {2, 2}, .padding = {2, 0}}), Error);
  EXPECT_THROW(avg_pool2d(tape, x, {.kernel = {0, 2}}), Error);
  EXPECT_THROW(avg_pool2d(tape, x, {.kernel = {2, 2}, .stride = {-1, 1}}), Error);
  EXPECT_THROW(global_avg_pool(tape, Var(random.normal({4, 2}))), Error);
}

}  // namespace
}  // namespace tutti::test
