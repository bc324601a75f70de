#include "tests/gpu/on_both.h"

#include <tutti/kernels/linear_cross_entropy.h>

namespace tutti::test {
namespace {

class GpuLinearCrossEntropy : public GpuTest {};

TEST_F(GpuLinearCrossEntropy, AsOnTheCpu) {
  for (const auto& [rows, inputs, classes] :
       {std::array<int64_t, 3>{7, 5, 11}, {130, 64, 1000}, {65, 96, 5003}}) {
    for (const int64_t chunk : {0, 32}) {
      SCOPED_TRACE(fmt::format("{} x {} -> {} in chunks of {}", rows, inputs, classes, chunk));
      const Tensor targets = random.integers({rows}, -1, classes - 1);
      compare(
          [&, chunk = chunk](Tape& t, const std::vector<Var>& v) {
            return linear_cross_entropy(t, v[0], v[1], targets, {.chunk_rows = chunk});
          },
          {random.normal({rows, inputs}), random.normal({classes, inputs}, 0.1)}, {.bf16 = 4e-2});
    }
  }
}

}  // namespace
}  // namespace tutti::test
