#include "kernels/cases/table.h"

#include <tutti/kernels/norm.h>

#include <fmt/format.h>

namespace tutti::cases {
namespace {

struct Variant {
  ImageLayout layout = ImageLayout::kNhwc;
  bool relu = false;
  bool residual = false;
  bool training = true;
};

int64_t channels(const Shape& shape, ImageLayout layout) {
  return layout == ImageLayout::kNhwc || shape.size() == 2 ? shape.back() : shape[1];
}

/// Inputs: x, w, b, running mean, running variance and optionally a residual. The "gradients" of the running
/// values are statistics of the batch, not derivatives.
OpCase batch_norm_row(const Shape& shape, const Variant& variant) {
  const int64_t c = channels(shape, variant.layout);
  std::vector<Input> inputs{normal(shape, 2), normal({c}), normal({c}), not_differentiable(normal({c})),
                            not_differentiable(uniform({c}, 0.5, 2))};
  if (variant.residual) inputs.push_back(normal(shape));
  OpCase row = make_case("batch_norm", std::move(inputs), [variant](Tape& t, std::span<const Var> v) {
                 return batch_norm(t, v[0], v[1], v[2], v[3], v[4],
                                   {.eps = 1e-3, .layout = variant.layout, .relu = variant.relu},
                                   variant.residual ? v[5] : Var{});
               }).in({.training = variant.training, .batch_share = 0.5});
  row.what = fmt::format("{} of {}{}{}{}", variant.layout == ImageLayout::kNhwc ? "NHWC" : "NCHW",
                         to_string(shape), variant.relu ? ", relu" : "", variant.residual ? ", residual" : "",
                         variant.training ? ", training" : "");
  return row;
}

void add_differences(Rows& rows) {
  const std::pair<Shape, ImageLayout> small[] = {{{3, 2, 5, 7}, ImageLayout::kNhwc},
                                                 {{3, 7, 2, 5}, ImageLayout::kNchw},
                                                 {{11, 3}, ImageLayout::kNhwc},
                                                 {{11, 3}, ImageLayout::kNchw},
                                                 {{4, 3, 5}, ImageLayout::kNchw}};
  for (const auto& [shape, layout] : small) {
    for (const int flags : {0, 1, 2, 3, 4, 5, 6, 7}) {
      const Variant variant{layout, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
      OpCase row = batch_norm_row(shape, variant).for_checks(kDifferences);
      row.relative = 1e-5;
      row.kinks = variant.relu;
      rows.push_back(std::move(row));
    }
  }
}

/// Shapes larger than chunks and blocks.
void add_precisions(Rows& rows) {
  const std::pair<Shape, ImageLayout> large[] = {{{9, 14, 15, 33}, ImageLayout::kNhwc},
                                                 {{9, 33, 14, 15}, ImageLayout::kNchw},
                                                 {{3001, 17}, ImageLayout::kNhwc},
                                                 {{70, 600}, ImageLayout::kNhwc},
                                                 {{2, 3, 90, 91}, ImageLayout::kNchw}};
  for (const auto& [shape, layout] : large) {
    const Tolerance tolerance{.fp32 = 5e-5, .bf16 = 3e-2};
    rows.push_back(batch_norm_row(shape, {.layout = layout}).for_checks(kPrecisions).within(tolerance));
    // With ReLU, all results are away from its kink, where gradients would differ between precisions.
    OpCase row = batch_norm_row(shape, {.layout = layout, .relu = true, .residual = true})
                     .for_checks(kPrecisions)
                     .within(tolerance);
    const int64_t c = channels(shape, layout);
    row.inputs[0] = two_sided(shape, 0.5, 1.5);
    row.inputs[1] = uniform({c}, 0.8, 2);
    row.inputs[2] = uniform({c}, -0.05, 0.05);
    row.inputs[5] = uniform(shape, -0.05, 0.05);
    rows.push_back(std::move(row));
  }
}

/// Channels that are and are not a multiple of the pack, one and several blocks of columns, one and several
/// chunks.
void add_on_cuda(Rows& rows) {
  for (const ImageLayout layout : {ImageLayout::kNhwc, ImageLayout::kNchw}) {
    for (const Shape& shape : {Shape{3, 5, 7, 64}, Shape{2, 3, 3, 17}, Shape{40, 12}, Shape{8, 33, 31, 8},
                               Shape{5, 40, 1, 9}, Shape{2, 3, 70, 20}, Shape{301, 1}}) {
      for (const int flags : {0, 1, 2, 3, 4, 5, 6, 7}) {
        const Variant variant{layout, (flags & 4) != 0, (flags & 2) != 0, (flags & 1) != 0};
        OpCase row = batch_norm_row(shape, variant)
                         .for_checks(kCuda)
                         .within({.fp32 = 1e-4, .bf16 = 4e-2, .fp64 = 1e-10});
        // No sum is near zero, where ReLU would depend on rounding.
        if (variant.relu && variant.residual) {
          row.inputs[5] = two_sided(shape, 20, 25);
        } else if (variant.relu) {
          const int64_t c = channels(shape, layout);
          row.inputs[0] = two_sided(shape, 2, 2.5);
          row.inputs[1] = uniform({c}, 0.8, 2);
          row.inputs[2] = uniform({c}, -0.05, 0.05);
          row.inputs[3] = not_differentiable(uniform({c}, -0.05, 0.05));
        }
        rows.push_back(std::move(row));
      }
    }
  }
}

}  // namespace

void add_batch_norm_rows(Rows& rows) {
  add_differences(rows);
  add_precisions(rows);
  add_on_cuda(rows);
}

void add_timed_batch_norm(TimedRows& rows, const KernelSizes& s, double e) {
  const Shape shape{s.images, 56, 56, 256};
  const double one = count(numel(shape)) * e;
  // x and dy are read twice: the means are needed before they can be subtracted.
  rows.push_back({.name = "batch_norm + residual + relu",
                  .shape = size_text(shape),
                  .forward = {.bytes = 4 * one},
                  .backward = {.bytes = 6 * one},
                  .row = batch_norm_row(shape, {.relu = true, .residual = true})});
}

}  // namespace tutti::cases
