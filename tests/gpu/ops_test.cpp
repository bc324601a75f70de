// Every op on CUDA against the CPU, from the table of kernels/cases.
#include "tests/gpu/on_both.h"
#include "tests/kernels/op_rows.h"

namespace tutti::test {
namespace {

class GpuOps : public GpuTest, public ::testing::WithParamInterface<cases::OpCase> {};

TEST_P(GpuOps, AsOnTheCpu) {
  const cases::OpCase& row = GetParam();
  const std::vector<Tensor> inputs = draw(row, random);
  if (!row.timing_chooses) return compare(row.apply, inputs, row.tolerance, row.context);
  compare(row.apply, inputs, row.tolerance, row.context, heuristic_gpu());
  // The faster way, whose sums may follow the timing.
  expect_near_in(DType::kBFloat16, row.apply, inputs, row.tolerance, row.context);
}

INSTANTIATE_TEST_SUITE_P(Table, GpuOps, ::testing::ValuesIn(rows_for(cases::kCuda)), row_name);

}  // namespace
}  // namespace tutti::test
