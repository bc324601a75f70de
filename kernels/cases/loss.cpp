// Softmax and the losses.
#include "kernels/cases/cross_entropy_settings.h"
#include "kernels/cases/table.h"

#include <tutti/kernels/linear_cross_entropy.h>
#include <tutti/kernels/pointwise.h>
#include <tutti/kernels/softmax.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace tutti::cases {
namespace {

using Vars = std::span<const Var>;

OpCase softmax_row(bool logarithm, const Shape& shape, double spread) {
  if (logarithm)
    return make_case("log_softmax", {normal(shape, spread)},
                     [](Tape& t, Vars v) { return log_softmax(t, v[0]); });
  return make_case("softmax", {normal(shape, spread)}, [](Tape& t, Vars v) { return softmax(t, v[0]); });
}

/// `temporary`: nothing else reads the logits.
OpCase cross_entropy_row(const Shape& logits, double spread, const CrossEntropySetting& setting, DType index,
                         bool temporary = false) {
  const int64_t classes = setting.options.classes > 0 ? setting.options.classes : logits.back();
  Input targets = integers({logits.begin(), logits.end() - 1}, 0, classes - 1, index);
  targets.replaced_share = setting.ignored;
  targets.replacement = static_cast<double>(setting.options.ignore_index);
  return make_case("cross_entropy", {normal(logits, spread), std::move(targets)},
                   [options = setting.options, temporary](Tape& t, Vars v) {
                     if (temporary) return cross_entropy(t, scale(t, v[0], 0.5), v[1].value, options);
                     return cross_entropy(t, v[0], v[1].value, options);
                   })
      .with(fmt::format("{}, {} of rows are {}, smoothing {}, scale {:.3g}, {} classes{}", name(index),
                        setting.ignored, setting.options.ignore_index, setting.options.label_smoothing,
                        setting.options.scale, classes, temporary ? ", of a temporary" : ""));
}

/// A tenth of the targets are ignored. With options.loss.classes, the logits have columns of padding.
OpCase linear_cross_entropy_row(const Shape& x, int64_t classes, double deviation,
                                const LinearCrossEntropyOptions& options) {
  Input targets = integers({x.begin(), x.end() - 1}, 0, classes - 1);
  const int64_t columns = options.loss.classes > 0 ? classes + 5 : classes;
  targets.replaced_share = 0.1;
  targets.replacement = -1;
  return make_case("linear_cross_entropy", {normal(x), normal({columns, x.back()}, deviation), targets},
                   [=](Tape& t, Vars v) { return linear_cross_entropy(t, v[0], v[1], v[2].value, options); })
      .with(fmt::format("chunks of {}, smoothing {}, cap {}, {} of {} classes", options.chunk_rows,
                        options.loss.label_smoothing, options.soft_cap, classes, columns));
}

}  // namespace

void add_loss_rows(Rows& rows) {
  for (const bool logarithm : {false, true}) {
    for (const Shape& shape : {Shape{1}, Shape{6}, Shape{3, 5}, Shape{2, 3, 11}})
      rows.push_back(softmax_row(logarithm, shape, 3).for_checks(kDifferences));
    for (const Shape& shape : {Shape{700, 67}, Shape{5, 7001}, Shape{40, 1025}})
      rows.push_back(softmax_row(logarithm, shape, 3).for_checks(kPrecisions));
    // A small spread: if one element of the only row had nearly all of the weight, gradients would be
    // rounding errors.
    rows.push_back(softmax_row(logarithm, {5}, 1).for_checks(kCuda));
    for (const Shape& shape : {Shape{33, 7}, Shape{2, 9, 1000}, Shape{17, 5003}, Shape{3, 50304}})
      rows.push_back(softmax_row(logarithm, shape, 3).for_checks(kCuda));
  }
  for (const CrossEntropySetting& setting : kCrossEntropySettings) {
    for (const DType index : {DType::kInt32, DType::kInt64})
      rows.push_back(cross_entropy_row({3, 4, 7}, 2, setting, index).for_checks(kDifferences));
    rows.push_back(cross_entropy_row({61, 3001}, 3, setting, DType::kInt32).for_checks(kPrecisions));
  }
  for (const DType index : {DType::kInt32, DType::kInt64}) {
    for (const int64_t classes : {3, 1000, 50304}) {
      for (const double smoothing : {0.0, 0.1}) {
        const CrossEntropySetting setting{{.label_smoothing = smoothing, .scale = 1.0 / 38}, 0.1};
        rows.push_back(cross_entropy_row({2, 19, classes}, 3, setting, index).for_checks(kCuda));
      }
    }
  }
  // Columns of padding, with and without 16-byte alignment of the rows.
  const CrossEntropySetting padded{{.label_smoothing = 0.1, .scale = 0.5, .classes = 5}, 0.2};
  rows.push_back(cross_entropy_row({3, 4, 8}, 2, padded, DType::kInt32).for_checks(kDifferences));
  for (const auto& [columns, classes] : {std::array<int64_t, 2>{1008, 1001}, {1003, 1000}}) {
    const CrossEntropySetting setting{{.scale = 1.0 / 38, .classes = classes}, 0.1};
    rows.push_back(
        cross_entropy_row({2, 19, columns}, 3, setting, DType::kInt64).for_checks(kCuda | kPrecisions));
    rows.push_back(cross_entropy_row({2, 19, columns}, 6, setting, DType::kInt32, true).for_checks(kCuda));
  }
  rows.push_back(cross_entropy_row({3, 5000}, 6, {{.label_smoothing = 0.1}, 0.1}, DType::kInt32, true)
                     .for_checks(kCuda | kDifferences));
  for (const int64_t chunk : {4, 100})
    rows.push_back(linear_cross_entropy_row({3, 7, 5}, 11, 1, {.loss = {.classes = 11}, .chunk_rows = chunk})
                       .for_checks(kDifferences | kPrecisions));
  for (const int64_t chunk : {1, 4, 100})
    rows.push_back(
        linear_cross_entropy_row({3, 7, 5}, 11, 1,
                                 {.loss = {.label_smoothing = 0.1, .scale = 1.0 / 21}, .chunk_rows = chunk})
            .for_checks(kDifferences));
  rows.push_back(
      linear_cross_entropy_row({3, 7, 5}, 11, 1, {.chunk_rows = 4, .soft_cap = 2}).for_checks(kDifferences));
  for (const int64_t chunk : {0, 4})
    rows.push_back(
        linear_cross_entropy_row({3, 7, 5}, 11, 1, {.loss = {.scale = 1.0 / 21}, .chunk_rows = chunk})
            .for_checks(kPrecisions));
  for (const auto& [batch, inputs, classes] :
       std::initializer_list<std::array<int64_t, 3>>{{7, 5, 11}, {130, 64, 1000}, {65, 96, 5003}}) {
    for (const int64_t chunk : {0, 32})
      rows.push_back(linear_cross_entropy_row({batch, inputs}, classes, 0.1, {.chunk_rows = chunk})
                         .for_checks(kCuda)
                         .within({.bf16 = 4e-2}));
  }
}

void add_timed_losses(TimedRows& rows, const KernelSizes& s, double e) {
  const Shape logits{std::min<int64_t>(s.tokens, 32768),
                     s.vocabulary};  // the logits of a large batch would have tens of GiB
  const double bytes = count(numel(logits)) * e;
  rows.push_back({.name = "cross_entropy",
                  .shape = size_text(logits),
                  .forward = {.bytes = bytes},
                  .backward = {.bytes = 2 * bytes},
                  .row = cross_entropy_row(logits, 1, {{}, 0}, DType::kInt32)});
}

}  // namespace tutti::cases
