#include "tests/kernels/op_check.h"

#include <tutti/kernels/pool.h>

#include <cmath>
#include <limits>

namespace tutti::test {
namespace {

class Pool : public RandomTest {};

struct Case {
  std::array<int64_t, 2> size, kernel, stride, padding;
};

const Case kCases[] = {{{4, 6}, {2, 2}, {0, 0}, {0, 0}}, {{7, 5}, {3, 3}, {2, 2}, {1, 1}},
                       {{7, 8}, {3, 2}, {1, 3}, {1, 0}}, {{5, 5}, {2, 2}, {3, 3}, {0, 0}},
                       {{3, 4}, {3, 4}, {1, 1}, {0, 0}}, {{9, 6}, {4, 4}, {2, 1}, {2, 2}}};

Pool2dOptions options_of(const Case& c, ImageLayout layout, bool count_padding = true) {
  return {.kernel = c.kernel,
          .stride = c.stride,
          .padding = c.padding,
          .layout = layout,
          .count_padding = count_padding};
}

Shape image_shape(const Case& c, ImageLayout layout, int64_t images = 2, int64_t channels = 3) {
  return layout == ImageLayout::kNhwc ? Shape{images, c.size[0], c.size[1], channels}
                                      : Shape{images, channels, c.size[0], c.size[1]};
}

/// The definition on (N, H, W, C): largest, or mean over the window (with padding as zeros or left out).
std::vector<double> reference(const Tensor& x, const Case& c, bool take_max, bool count_padding) {
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

TEST_F(Pool, ValuesAndGradients) {
  for (const Case& c : kCases) {
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
          GradCheckOptions check;
          check.kinks = take_max;
          check_gradients(f, {x}, random, check);
        }
      }
    }
  }
}

TEST_F(Pool, PrecisionsAndThreads) {
  const Case c{{13, 17}, {3, 3}, {2, 2}, {1, 1}};
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    const Tensor x = random.normal(image_shape(c, layout, 6, 70));
    const Pool2dOptions options = options_of(c, layout, false);
    check_precisions([&](Tape& t, const std::vector<Var>& v) { return max_pool2d(t, v[0], options); }, {x},
                     random, {.fp32 = 1e-6, .bf16 = 1e-2});
    check_precisions([&](Tape& t, const std::vector<Var>& v) { return avg_pool2d(t, v[0], options); }, {x},
                     random, {.fp32 = 1e-6, .bf16 = 1e-2});
    check_precisions([&](Tape& t, const std::vector<Var>& v) { return global_avg_pool(t, v[0], layout); },
                     {x}, random, {.fp32 = 1e-5, .bf16 = 2e-2});
  }
}

TEST_F(Pool, GlobalAverage) {
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    const Case c{{3, 5}, {}, {}, {}};
    const Tensor x = random.normal(image_shape(c, layout));
    const Function f = [&](Tape& t, const std::vector<Var>& v) { return global_avg_pool(t, v[0], layout); };
    check_gradients(f, {x}, random);
    Tape tape(stream());
    const Tensor y = f(tape, {Var(x)}).value;
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
