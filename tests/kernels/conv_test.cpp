#include <tutti/kernels/conv.h>
#include "kernels/cpu/blas.h"

#include <tests/kernels/op_check.h>

namespace tutti {
namespace {

using test::expect_close;
using test::expect_same_bits;
using test::stream;

class ConvTest : public test::RandomTest {};

/// A convolution of NHWC images in fp64, one tap at a time.
Tensor slow_conv(const Tensor& x, const Tensor& w, const Conv2dOptions& o) {
  const auto xs = test::to_doubles(x);
  const auto ws = test::to_doubles(w);
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

struct Case {
  int64_t n, h, w, c, o, kh, kw;
  Conv2dOptions options;
};
const Case kCases[] = {
    {1, 1, 1, 1, 1, 1, 1, {}},
    {3, 7, 5, 3, 4, 3, 3, {.padding = {1, 1}}},
    {5, 9, 8, 4, 6, 3, 2, {.stride = {2, 3}, .padding = {1, 0}}},
    {2, 8, 9, 6, 4, 3, 3, {.padding = {2, 1}, .dilation = {2, 1}, .groups = 2}},
    {19, 6, 6, 16, 32, 1, 1, {.stride = {2, 2}}},
    {4, 11, 11, 8, 8, 3, 3, {.stride = {2, 2}, .padding = {1, 1}, .groups = 8}},
};

TEST_F(ConvTest, MatchesTheSlowOneOnEveryLibrary) {
  const cpu::MathLibrary before = cpu::math_library();
  for (const auto library : {cpu::MathLibrary::kOneDnn, cpu::MathLibrary::kOwn}) {
    if (!cpu::has_math_library(library)) continue;
    cpu::set_math_library(library);
    for (const DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
      const double tolerance = dtype == DType::kFloat64 ? 1e-12 : dtype == DType::kFloat32 ? 1e-5 : 2e-2;
      for (const Case& c : kCases) {
        const Tensor x = random.normal({c.n, c.h, c.w, c.c}, 1, dtype);
        const Tensor w = random.normal({c.o, c.c / c.options.groups, c.kh, c.kw}, 0.3, dtype);
        const Tensor expected = slow_conv(x, w, c.options);
        Tape tape(stream(), {}, Tape::Mode::kInference);
        SCOPED_TRACE(fmt::format("{} {} images {}", name(library), name(dtype), to_string(x.shape())));
        expect_close(conv2d(tape, Var(test::strided_copy(x)), Var(w), Var(), c.options).value, expected,
                     tolerance, tolerance);
        Conv2dOptions nchw = c.options;
        nchw.layout = ImageLayout::kNchw;
        expect_close(conv2d(tape, Var(x.permute({0, 3, 1, 2})), Var(w), Var(), nchw).value,
                     expected.permute({0, 3, 1, 2}), tolerance, tolerance);
      }
    }
  }
  cpu::set_math_library(before);
}

TEST_F(ConvTest, Gradients) {
  for (const Case& c : kCases) {
    if (c.n > 5) continue;
    for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
      Conv2dOptions options = c.options;
      options.layout = layout;
      const Shape x = layout == ImageLayout::kNhwc ? Shape{c.n, c.h, c.w, c.c} : Shape{c.n, c.c, c.h, c.w};
      test::check_gradients(
          [&](Tape& t, const std::vector<Var>& v) { return conv2d(t, v[0], v[1], v[2], options); },
          {random.normal(x), random.normal({c.o, c.c / c.options.groups, c.kh, c.kw}), random.normal({c.o})},
          random, {.max_elements = 24});
    }
  }
}

TEST_F(ConvTest, LowPrecisionGradientsMatchFp64AndThreadsDoNotMatter) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const Case& c : kCases) {
      const Tensor x = random.normal({c.n, c.h, c.w, c.c}, 1, dtype);
      const Tensor w = random.normal({c.o, c.c / c.options.groups, c.kh, c.kw}, 0.3, dtype);
      const Tensor dy = random.normal(slow_conv(x, w, c.options).shape(), 1, dtype);
      const auto run = [&](DType d, int threads) {
        ThreadPool pool(threads);
        const Stream s = Stream::inline_on(pool);
        Parameter p = test::parameter_of(w.to(d, stream()));
        Tape tape(s);
        const Var v = tape.variable(x.to(d, stream()));
        const Var y = conv2d(tape, v, tape.leaf(p), Var(), c.options);
        tape.backward(y, dy.to(d, stream()).clone(stream()));
        return std::array{y.value, tape.gradient(v), p.grad};
      };
      const auto wide = run(DType::kFloat64, 1);
      const auto one = run(dtype, 1);
      const double tolerance = dtype == DType::kFloat32 ? 1e-4 : 3e-2;
      SCOPED_TRACE(fmt::format("{} images {}", name(dtype), to_string(x.shape())));
      for (size_t i = 0; i < 3; ++i) expect_close(one[i], wide[i], tolerance, tolerance * 3);
      for (const int threads : {2, 3}) {
        const auto many = run(dtype, threads);
        for (size_t i = 0; i < 3; ++i) expect_same_bits(many[i], one[i]);
      }
    }
  }
}

// 3 x 3 filters with many channels on large images go by Winograd's algorithm where the library has it.
TEST_F(ConvTest, LargeImages) {
  for (const int64_t padding : {0, 1}) {
    const Conv2dOptions options{.padding = {padding, padding}};
    test::check_precisions(
        [&](Tape& t, const std::vector<Var>& v) { return conv2d(t, v[0], v[1], v[2], options); },
        {random.normal({3, 23, 22, 32}), random.normal({48, 32, 3, 3}, 0.1), random.normal({48})}, random,
        {.fp32 = 5e-5});
  }
}

TEST_F(ConvTest, FilterGradientsAccumulate) {
  for (const auto& [size, channels] : {std::pair<int64_t, int64_t>{4, 5}, {9, 16}, {21, 32}}) {
    const Tensor x = random.normal({5, size, size, channels}, 1, DType::kFloat32);
    Parameter once = test::parameter_of(random.normal({32, channels, 3, 3}, 0.1, DType::kFloat32));
    Parameter twice = test::parameter_of(once.value);
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

TEST_F(ConvTest, RefusesWhatDoesNotFit) {
  Tape tape(stream());
  const auto make = [&](const Shape& shape) { return Var(random.normal(shape)); };
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 3}), make({2, 4, 3, 3}), Var()), Error);
  EXPECT_THROW(conv2d(tape, make({1, 2, 2, 3}), make({2, 3, 3, 3}), Var()), Error);
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 3}), make({2, 3, 3, 3}), make({3})), Error);
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 3}), make({2, 3, 3, 3}), Var(), {.stride = {0, 1}}), Error);
  EXPECT_THROW(conv2d(tape, make({4, 4, 3}), make({2, 3, 3, 3}), Var()), Error);
  EXPECT_THROW(conv2d(tape, make({1, 4, 4, 4}), make({3, 2, 3, 3}), Var(), {.groups = 2}), Error);
}

}  // namespace
}  // namespace tutti
