#include "kernels/cases/table.h"

#include <tutti/kernels/norm.h>
#include <tutti/kernels/pointwise.h>

namespace tutti::cases {
namespace {

using Vars = std::span<const Var>;
constexpr double kEps = 1e-3;

enum class Norm : uint8_t { kLayer, kLayerWithoutBias, kRms };

OpCase norm_row(Norm norm, const Shape& shape) {
  const int64_t c = shape.back();
  switch (norm) {
    case Norm::kLayer:
      return make_case("layer_norm", {normal(shape, 2), normal({c}), normal({c})},
                       [](Tape& t, Vars v) { return layer_norm(t, v[0], v[1], v[2], kEps); });
    case Norm::kLayerWithoutBias:
      return make_case("layer_norm", {normal(shape, 2), normal({c})},
                       [](Tape& t, Vars v) { return layer_norm(t, v[0], v[1], Var{}, kEps); });
    case Norm::kRms:
      break;
  }
  return make_case("rms_norm", {normal(shape, 2), normal({c})},
                   [](Tape& t, Vars v) { return rms_norm(t, v[0], v[1], kEps); });
}

/// Uses the sum again after the norm, as in a residual network.
Var both(Tape& t, const AddNorm& r) {
  return mul(t, r.sum, r.y);
}

OpCase add_norm_row(Norm norm, const Shape& shape) {
  const int64_t c = shape.back();
  if (norm == Norm::kRms) {
    return make_case("add_rms_norm", {normal(shape), normal(shape), normal({c})},
                     [](Tape& t, Vars v) { return both(t, add_rms_norm(t, v[0], v[1], v[2], kEps)); });
  }
  return make_case("add_layer_norm", {normal(shape), normal(shape), normal({c}), normal({c})},
                   [](Tape& t, Vars v) { return both(t, add_layer_norm(t, v[0], v[1], v[2], v[3], kEps)); });
}

}  // namespace

void add_norm_rows(Rows& rows) {
  for (const Norm norm : {Norm::kLayer, Norm::kLayerWithoutBias, Norm::kRms}) {
    for (const Shape& shape : {Shape{7}, Shape{3, 5}, Shape{2, 3, 17}, Shape{5, 2}})
      rows.push_back(
          norm_row(norm, shape).for_checks(shape.size() == 1 ? kDifferences | kCuda : kDifferences));
    // On CUDA: widths for one warp per row (1 to 3 packs per lane), for one block per row with one and
    // several packs per lane, and rows that are not register-resident: of odd width, with unaligned rows, and
    // too long for a block.
    for (const Shape& shape : {Shape{1000, 37}, Shape{3, 20001}})
      rows.push_back(norm_row(norm, shape).for_checks(kPrecisions | kCuda));
    rows.push_back(norm_row(norm, {301, 384}).for_checks(kPrecisions));
    for (const Shape& shape : {Shape{3, 256}, Shape{1, 301, 384}, Shape{2111, 768}, Shape{70, 1600},
                               Shape{5, 16384}, Shape{3, 40960}})
      rows.push_back(norm_row(norm, shape).for_checks(kCuda));
    rows.push_back(norm_row(norm, {0, 24}));
  }
  // Gradients of x are added: x is the input, the bias and the source of the weight.
  for (const int64_t n : {768, 35}) {
    rows.push_back(make_case("layer_norm", {normal({n}), normal({n})},
                             [](Tape& t, Vars v) {
                               return layer_norm(t, v[0], rms_norm(t, v[0], v[1], 1e-2), v[0], 1e-2);
                             })
                       .for_checks(kCuda)
                       .within({.bf16 = 4e-2})
                       .with("adds to gradients"));
  }
  for (const Norm norm : {Norm::kLayer, Norm::kRms}) {
    rows.push_back(add_norm_row(norm, {3, 5, 17}).for_checks(kDifferences));
    rows.push_back(add_norm_row(norm, {301, 384}).for_checks(kPrecisions).within({.bf16 = 4e-2}));
    for (const Shape& shape :
         {Shape{3, 256}, Shape{1111, 768}, Shape{33, 1600}, Shape{100, 37}, Shape{3, 40960}})
      rows.push_back(add_norm_row(norm, shape).for_checks(kCuda).within({.bf16 = 4e-2}));
  }
}

void add_timed_norms(TimedRows& rows, const KernelSizes& s, double e) {
  const Shape shape{s.tokens, s.width};
  const double one = count(numel(shape)) * e;
  const auto add = [&](const char* name, double passes, OpCase row) {
    rows.push_back({.name = name,
                    .shape = size_text(shape),
                    .forward = {.bytes = passes * one},
                    .backward = {.bytes = 3 * one},
                    .row = std::move(row)});
  };
  add("layer_norm", 2, norm_row(Norm::kLayerWithoutBias, shape));
  add("rms_norm", 2, norm_row(Norm::kRms, shape));
  add("residual + layer_norm", 4,
      make_case("add_layer_norm", {normal(shape), normal(shape), normal({s.width})},
                [](Tape& t, Vars v) { return add_layer_norm(t, v[0], v[1], v[2], Var{}).y; }));
}

}  // namespace tutti::cases
