#include "tests/gpu/on_both.h"

#include <tutti/kernels/reduce.h>
#include <tutti/kernels/shape.h>

namespace tutti::test {
namespace {

class GpuShape : public GpuTest {};

TEST_F(GpuShape, ViewsConcatAndGather) {
  const Tensor x = random.normal({4, 5, 6});
  compare([](Tape& t, const std::vector<Var>& v) { return permute(t, v[0], {2, 0, 1}); }, {x});
  compare([](Tape& t, const std::vector<Var>& v) { return slice(t, v[0], 1, 1, 5, 2); }, {x});
  compare([](Tape& t, const std::vector<Var>& v) { return view(t, transpose(t, v[0], 0, 2), {30, 4}); }, {x});
  compare(
      [](Tape& t, const std::vector<Var>& v) {
        return expand(t, v[0], {7, 3, 65});
      },
      {random.normal({3, 1})});
  for (const int dim : {0, 1, 2}) {
    compare(
        [&](Tape& t, const std::vector<Var>& v) {
          return concat(t, {v[0], v[0], v[1]}, dim);
        },
        {x, random.normal({4, 5, 6})});
    const Tensor picks = random.integers({9}, 0, 3, DType::kInt64);
    compare([&](Tape& t, const std::vector<Var>& v) { return gather(t, v[0], dim, picks); }, {x});
  }
}

TEST_F(GpuShape, Max) {
  for (const std::vector<int>& dims : std::vector<std::vector<int>>{{}, {0}, {1}, {2}, {0, 2}}) {
    // Few values, so that there are ties: the first one wins.
    const Tensor x = random.integers({3, 70, 33}, 0, 9, DType::kFloat64);
    compare([&](Tape& t, const std::vector<Var>& v) { return max(t, v[0], dims, false); }, {x});
  }
  Tensor x = random.normal({5, 2000}, 1, DType::kFloat32);
  x.data<float>()[2 * 2000 + 1234] = std::numeric_limits<float>::quiet_NaN();
  Tape tape(gpu());
  const Tensor y =
      max(tape, Var(x.to(DType::kFloat32, gpu())), {1}, false).value.to(DType::kFloat32, stream());
  for (int64_t r = 0; r < 5; ++r) EXPECT_EQ(std::isnan(y.data<float>()[r]), r == 2);
}

}  // namespace
}  // namespace tutti::test
