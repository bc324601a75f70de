// Every op on CUDA against the CPU, from the table of kernels/cases.
#include "tests/gpu/on_both.h"
#include "tests/kernels/op_rows.h"

#include <limits>

namespace tutti::test {
namespace {

class GpuOps : public GpuTest, public ::testing::WithParamInterface<cases::OpCase> {};

TEST_P(GpuOps, MatchesTheCpu) {
  const cases::OpCase& row = GetParam();
  const std::vector<Tensor> inputs = draw(row, random);
  if (!row.depends_on_timing) return compare(row.apply, inputs, row.tolerance, row.context);
  compare(row.apply, inputs, row.tolerance, row.context, heuristic_gpu());
  // The faster implementation, whose sums may depend on timing.
  expect_near_in(DType::kBFloat16, row.apply, inputs, row.tolerance, row.context);
}

/// The rows for CUDA. In software, large inputs would take minutes and find nothing new.
std::vector<cases::OpCase> rows() {
  std::vector<cases::OpCase> all = rows_for(cases::kCuda);
  std::erase_if(all, [](const cases::OpCase& row) {
    int64_t elements = 0;
    for (const cases::Input& input : row.inputs) elements += numel(input.shape);
    return elements > extent(std::numeric_limits<int64_t>::max(), 60'000);
  });
  return all;
}

INSTANTIATE_TEST_SUITE_P(Table, GpuOps, ::testing::ValuesIn(rows()), row_name);

}  // namespace
}  // namespace tutti::test
