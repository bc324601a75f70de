#include "kernels/cases/table.h"

#include <tutti/kernels/shape.h>

#include <fmt/format.h>

namespace tutti::cases {
namespace {

using Vars = std::span<const Var>;

OpCase gather_row(const Shape& shape, int dim, int64_t picks, DType dtype = DType::kInt64) {
  const int64_t size = shape[static_cast<size_t>(dim < 0 ? dim + static_cast<int>(shape.size()) : dim)];
  return make_case("gather", {normal(shape), integers({picks}, 0, size - 1, dtype)},
                   [=](Tape& t, Vars v) { return gather(t, v[0], dim, v[1].value); })
      .with(fmt::format("dim {}, {}", dim, name(dtype)));
}

}  // namespace

void add_shape_rows(Rows& rows) {
  const auto add = [&](OpCase row) { rows.push_back(std::move(row)); };
  add(make_case("view", {normal({3, 4, 5})}, [](Tape& t, Vars v) {
        return view(t, v[0], {12, -1});
      }).for_checks(kDifferences));
  add(make_case("transpose", {normal({3, 4, 5})}, [](Tape& t, Vars v) { return transpose(t, v[0], 0, -1); }));
  add(make_case("permute", {normal({3, 4, 5})}, [](Tape& t, Vars v) { return permute(t, v[0], {2, 0, 1}); }));
  add(make_case("slice", {normal({3, 4, 5})}, [](Tape& t, Vars v) {
        return slice(t, v[0], 1, 1, 4, 2);
      }).with("every second"));
  add(make_case("slice", {normal({3, 4, 5})}, [](Tape& t, Vars v) { return slice(t, v[0], -1, 2, 3); })
          .for_checks(kDifferences)
          .with("one of the last dim"));
  add(make_case("expand", {normal({4, 1})}, [](Tape& t, Vars v) {
        return expand(t, v[0], {3, 4, 7});
      }).for_checks(kDifferences));
  add(make_case("expand", {normal({3, 1})}, [](Tape& t, Vars v) { return expand(t, v[0], {7, 3, 65}); }));
  add(make_case("view", {normal({4, 5, 6})}, [](Tape& t, Vars v) {
        return view(t, transpose(t, v[0], 0, 2), {30, 4});
      }).with("of a transpose"));
  for (const int dim : {0, 1, 2}) {
    add(make_case("concat", {normal({4, 5, 6}), normal({4, 5, 6})}, [dim](Tape& t, Vars v) {
          return concat(t, {v[0], v[0], v[1]}, dim);
        }).with(fmt::format("dim {}, one part twice", dim)));
    add(gather_row({4, 5, 6}, dim, 9));
  }
  add(make_case("concat", {normal({6, 3})},
                [](Tape& t, Vars v) {
                  return concat(t, {slice(t, v[0], 0, 0, 4), slice(t, v[0], 0, 2, 6)}, 1);
                })
          .for_checks(kDifferences)
          .with("of slices that overlap"));
  add(make_case("concat", {normal({2, 3, 4}), normal({2, 1, 4}), normal({2, 5, 4})}, [](Tape& t, Vars v) {
        return concat(t, v, -2);
      }).for_checks(kDifferences));
  for (const int dim : {0, 1, -1}) {
    for (const DType dtype : {DType::kInt32, DType::kInt64})
      add(gather_row({3, 5, 4}, dim, 7, dtype).for_checks(kDifferences));
  }
  add(gather_row({33, 17, 65}, 1, 301, DType::kInt32).for_checks(kPrecisions));
}

}  // namespace tutti::cases
