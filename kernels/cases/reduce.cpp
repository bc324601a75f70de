#include "kernels/cases/table.h"

#include <tutti/kernels/reduce.h>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace tutti::cases {
namespace {

using Reduction = Var (*)(Tape&, const Var&, const std::vector<int>&, bool);

OpCase reduce_row(const char* op, Reduction apply, Input input, const std::vector<int>& dims, bool keep) {
  return make_case(op, {std::move(input)},
                   [=](Tape& t, std::span<const Var> v) { return apply(t, v[0], dims, keep); })
      .with(fmt::format("dims {}{}", dims, keep ? ", kept" : ""));
}

struct Named {
  const char* op;
  Reduction apply;
};
const Named kSums[] = {{"sum", sum}, {"mean", mean}};

}  // namespace

void add_reduce_rows(Rows& rows) {
  const std::vector<std::vector<int>> any = {{}, {0}, {1}, {-1}, {0, 1}, {1, 2}, {0, 2}, {2, 0, 1}, {-2}};
  for (const auto& [op, apply] : {kSums[0], kSums[1], Named{"max", max}}) {
    for (const auto& dims : any) {
      for (const bool keep : {false, true})
        rows.push_back(reduce_row(op, apply, normal({3, 5, 7}), dims, keep).for_checks(kDifferences));
    }
  }
  // Shapes larger than chunks, segments and column blocks. Positive numbers, so that there is no cancellation
  // and tolerances can be small.
  const std::pair<Shape, std::vector<int>> large[] = {
      {{70003}, {}},       {{3001, 67}, {0}},      {{37, 2049}, {1}}, {{2, 3, 20011}, {2}},
      {{5, 4099, 3}, {1}}, {{9, 33, 130}, {0, 2}}, {{2, 4100}, {0}}};
  for (const auto& [shape, dims] : large) {
    for (const auto& [op, apply] : kSums)
      rows.push_back(reduce_row(op, apply, uniform(shape, 0, 1), dims, false)
                         .for_checks(kPrecisions)
                         .within({.fp32 = 2e-6, .bf16 = 5e-3}));
    rows.push_back(reduce_row("max", max, normal(shape), dims, false)
                       .for_checks(kPrecisions)
                       .within({.fp32 = 0, .bf16 = 0}));
  }
  for (const std::vector<int>& dims : std::vector<std::vector<int>>{{}, {0}, {1}, {2}, {0, 2}, {1, 2}}) {
    for (const bool keep : {true, false}) {
      for (const Shape& shape : {Shape{3, 5, 7}, Shape{130, 2, 65}, Shape{2, 700, 33}}) {
        for (const auto& [op, apply] : kSums)
          rows.push_back(
              reduce_row(op, apply, normal(shape), dims, keep).for_checks(kCuda).with("of either sign"));
      }
    }
  }
  rows.push_back(
      reduce_row("sum", sum, normal({100003}), {}, false).for_checks(kCuda).within({.fp32 = 1e-4}));
  // The first of equal elements is the maximum.
  for (const std::vector<int>& dims : std::vector<std::vector<int>>{{}, {0}, {1}, {2}, {0, 2}})
    rows.push_back(reduce_row("max", max, with_ties({3, 70, 33}, 0, 9), dims, false)
                       .for_checks(kPrecisions | kCuda)
                       .with("ties"));
}

}  // namespace tutti::cases
