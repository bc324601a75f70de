// Convolutions and pools.
#include "kernels/cases/table.h"

#include <tutti/kernels/conv.h>
#include <tutti/kernels/pool.h>

#include <fmt/format.h>

#include <array>

namespace tutti::cases {
namespace {

using Vars = std::span<const Var>;
constexpr ImageLayout kLayouts[] = {ImageLayout::kNhwc, ImageLayout::kNchw};

/// The shape of images (N, H, W, C) in `layout`.
Shape images(const Shape& nhwc, ImageLayout layout) {
  return layout == ImageLayout::kNhwc ? nhwc : Shape{nhwc[0], nhwc[3], nhwc[1], nhwc[2]};
}

const char* text(ImageLayout layout) {
  return layout == ImageLayout::kNhwc ? "NHWC" : "NCHW";
}

struct Convolution {
  Shape x;  // NHWC
  Shape w;
  Conv2dOptions options;
};

OpCase conv_row(const Convolution& c, ImageLayout layout, bool bias, double deviation = 1) {
  std::vector<Input> inputs{normal(images(c.x, layout)), normal(c.w, deviation)};
  if (bias) inputs.push_back(normal({c.w[0]}));
  Conv2dOptions options = c.options;
  options.layout = layout;
  return make_case("conv2d", std::move(inputs),
                   [=](Tape& t, Vars v) { return conv2d(t, v[0], v[1], bias ? v[2] : Var{}, options); })
      .with(text(layout));
}

void add_convolutions(Rows& rows) {
  const Convolution small[] = {
      {{1, 1, 1, 1}, {1, 1, 1, 1}, {}},
      {{3, 7, 5, 3}, {4, 3, 3, 3}, {.padding = {1, 1}}},
      {{5, 9, 8, 4}, {6, 4, 3, 2}, {.stride = {2, 3}, .padding = {1, 0}}},
      {{2, 8, 9, 6}, {4, 3, 3, 3}, {.padding = {2, 1}, .dilation = {2, 1}, .groups = 2}},
      {{4, 11, 11, 8}, {8, 1, 3, 3}, {.stride = {2, 2}, .padding = {1, 1}, .groups = 8}},
  };
  const Tolerance tolerance{.fp32 = 1e-4, .bf16 = 3e-2};
  for (const Convolution& c : small) {
    for (const ImageLayout layout : kLayouts) {
      OpCase row = conv_row(c, layout, true).for_checks(kDifferences);
      row.max_elements = 24;
      rows.push_back(std::move(row));
    }
    rows.push_back(conv_row(c, ImageLayout::kNhwc, false, 0.3).for_checks(kPrecisions).within(tolerance));
  }
  rows.push_back(
      conv_row({{19, 6, 6, 16}, {32, 16, 1, 1}, {.stride = {2, 2}}}, ImageLayout::kNhwc, false, 0.3)
          .for_checks(kPrecisions)
          .within(tolerance));
  // 3 x 3 filters with many channels on large images use Winograd's algorithm if the library supports it.
  for (const int64_t padding : {0, 1})
    rows.push_back(conv_row({{3, 23, 22, 32}, {48, 32, 3, 3}, {.padding = {padding, padding}}},
                            ImageLayout::kNhwc, true, 0.1)
                       .for_checks(kPrecisions)
                       .within({.fp32 = 5e-5})
                       .with(fmt::format("padding {}", padding)));
  const Convolution cuda[] = {
      {{2, 9, 11, 3}, {5, 3, 3, 3}, {.padding = {1, 1}}},
      {{3, 8, 8, 16}, {24, 16, 1, 1}, {}},
      {{2, 17, 13, 8}, {16, 8, 3, 3}, {.stride = {2, 2}, .padding = {1, 1}}},
      {{2, 33, 31, 3}, {64, 3, 7, 7}, {.stride = {2, 2}, .padding = {3, 3}}},
      {{2, 14, 14, 64}, {128, 64, 1, 1}, {.stride = {2, 2}}},
      {{1, 12, 15, 12}, {8, 6, 3, 3}, {.padding = {2, 2}, .dilation = {2, 2}, .groups = 2}},
      {{2, 10, 10, 8}, {8, 1, 3, 3}, {.padding = {1, 1}, .groups = 8}},
      {{2, 7, 19, 5}, {7, 5, 2, 5}, {.stride = {1, 3}, .padding = {0, 2}, .dilation = {3, 1}}},
  };
  for (const ImageLayout layout : kLayouts) {
    for (const Convolution& c : cuda) rows.push_back(conv_row(c, layout, true, 0.1).for_checks(kCuda));
  }
  rows.push_back(make_case("conv2d", {normal({2, 9, 7, 8}), normal({8, 8, 3, 3}, 0.1)},
                           [](Tape& t, Vars v) {
                             const Conv2dOptions options{.padding = {1, 1}};
                             return conv2d(t, conv2d(t, v[0], v[1], Var{}, options), v[1], Var{}, options);
                           })
                     .for_checks(kCuda)
                     .within({.fp32 = 4e-5, .bf16 = 4e-2})
                     .with("adds to gradients"));
  rows.push_back(conv_row({{0, 5, 5, 4}, {3, 4, 3, 3}, {}}, ImageLayout::kNhwc, false).for_checks(kCuda));
}

struct Window {
  std::array<int64_t, 2> size, kernel, stride, padding;
};

using Pool = Var (*)(Tape&, const Var&, const Pool2dOptions&);

OpCase pool_row(const char* op, Pool pool, const Shape& nhwc, const Window& window, ImageLayout layout,
                bool count_padding) {
  const Pool2dOptions options{.kernel = window.kernel,
                              .stride = window.stride,
                              .padding = window.padding,
                              .layout = layout,
                              .count_padding = count_padding};
  return make_case(op, {normal(images(nhwc, layout))},
                   [=](Tape& t, Vars v) { return pool(t, v[0], options); })
      .with(fmt::format("{}, {} x {}, stride {} x {}, padding {} x {} {}", text(layout), window.kernel[0],
                        window.kernel[1], window.stride[0], window.stride[1], window.padding[0],
                        window.padding[1], count_padding ? "counted" : "left out"));
}

OpCase global_row(const Shape& nhwc, ImageLayout layout) {
  return make_case("global_avg_pool", {normal(images(nhwc, layout))},
                   [=](Tape& t, Vars v) { return global_avg_pool(t, v[0], layout); })
      .with(text(layout));
}

/// Both kinds of pool for one window. Max pools ignore padding: count_padding has no effect on them.
template <class Change>
void add_pools(Rows& rows, const Shape& nhwc, const Window& window, ImageLayout layout, Change change) {
  rows.push_back(change(pool_row("max_pool2d", max_pool2d, nhwc, window, layout, true)));
  for (const bool count_padding : {true, false})
    rows.push_back(change(pool_row("avg_pool2d", avg_pool2d, nhwc, window, layout, count_padding)));
}

void add_pools(Rows& rows) {
  const Window small[] = {{{4, 6}, {2, 2}, {0, 0}, {0, 0}}, {{7, 5}, {3, 3}, {2, 2}, {1, 1}},
                          {{7, 8}, {3, 2}, {1, 3}, {1, 0}}, {{5, 5}, {2, 2}, {3, 3}, {0, 0}},
                          {{3, 4}, {3, 4}, {1, 1}, {0, 0}}, {{9, 6}, {4, 4}, {2, 1}, {2, 2}}};
  for (const ImageLayout layout : kLayouts) {
    for (const Window& window : small) {
      add_pools(rows, {2, window.size[0], window.size[1], 3}, window, layout, [](OpCase row) {
        row.kinks = row.op == "max_pool2d";
        return std::move(row).for_checks(kDifferences);
      });
    }
    add_pools(rows, {6, 13, 17, 70}, {{}, {3, 3}, {2, 2}, {1, 1}}, layout, [](OpCase row) {
      return std::move(row).for_checks(kPrecisions).within({.fp32 = 1e-6, .bf16 = 1e-2});
    });
    for (const int64_t padding : {0, 1}) {
      for (const int64_t stride : {1, 2, 3})
        add_pools(rows, {2, 11, 9, 37}, {{}, {3, 2}, {stride, 2}, {padding, padding}}, layout,
                  [](OpCase row) { return std::move(row).for_checks(kCuda); });
    }
    rows.push_back(global_row({2, 3, 5, 3}, layout).for_checks(kDifferences));
    rows.push_back(
        global_row({6, 13, 17, 70}, layout).for_checks(kPrecisions).within({.fp32 = 1e-5, .bf16 = 2e-2}));
  }
  rows.push_back(global_row({3, 7, 7, 130}, ImageLayout::kNhwc).for_checks(kCuda));
}

}  // namespace

void add_image_rows(Rows& rows) {
  add_convolutions(rows);
  add_pools(rows);
}

void add_timed_pools(TimedRows& rows, const KernelSizes& s, double e) {
  const Shape shape{s.images, 112, 112, 64};
  const double in = count(numel(shape)) * e;
  rows.push_back({.name = "max_pool 3x3, stride 2",
                  .shape = size_text(shape),
                  .forward = {.bytes = 1.25 * in},
                  .backward = {.bytes = 1.25 * in},
                  .row = pool_row("max_pool2d", max_pool2d, shape, {{}, {3, 3}, {2, 2}, {1, 1}},
                                  ImageLayout::kNhwc, true)});
}

void add_timed_convolutions(TimedRows& rows, const KernelSizes& s, double e) {
  struct Timed {
    const char* name;
    int64_t inputs, outputs, kernel, stride;
  };
  const int64_t n = s.images;
  const int64_t side = 56;
  for (const Timed& c : {Timed{"conv 3x3", 64, 64, 3, 1}, Timed{"conv 1x1", 256, 64, 1, 1},
                         Timed{"conv 3x3, stride 2", 128, 128, 3, 2}}) {
    const int64_t out_side = (side - 1) / c.stride + 1;
    const int64_t outputs = n * out_side * out_side * c.outputs;
    const int64_t taps = c.inputs * c.kernel * c.kernel;
    const double flops = 2 * count(outputs) * count(taps);
    const double bytes = (count(n * side * side * c.inputs) + count(outputs) + count(c.outputs * taps)) * e;
    rows.push_back(
        {.name = c.name,
         .shape = fmt::format("{} x {} x {} x {} -> {}", n, side, side, c.inputs, c.outputs),
         .forward = {bytes, flops},
         .backward = {2 * bytes, 2 * flops},
         .row = conv_row({{n, side, side, c.inputs},
                          {c.outputs, c.inputs, c.kernel, c.kernel},
                          {.stride = {c.stride, c.stride}, .padding = {c.kernel / 2, c.kernel / 2}}},
                         ImageLayout::kNhwc, false)});
  }
}

}  // namespace tutti::cases
