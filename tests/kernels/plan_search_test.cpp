#include "kernels/cuda/plan_search.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace tutti::cuda {
namespace {

TEST(PlanSearch, TakesTheFirstPlanThatIsBuiltAndRuns) {
  std::vector<int64_t> ran;
  const auto search = [&](int64_t from, std::vector<int64_t> built, std::vector<int64_t> running) {
    ran.clear();
    const auto among = [](const std::vector<int64_t>& all, int64_t i) {
      return std::find(all.begin(), all.end(), i) != all.end();
    };
    return run_first(
        from, 6, [=](int64_t i) { return among(built, i); },
        [&, running](int64_t i) {
          ran.push_back(i);
          return among(running, i);
        });
  };
  EXPECT_EQ(search(0, {1, 3, 4}, {3, 4}), 3);
  EXPECT_EQ(ran, (std::vector<int64_t>{1, 3}));
  EXPECT_EQ(search(2, {1, 3}, {1}), -1);
  EXPECT_EQ(search(6, {1}, {1}), -1);
}

TEST(PlanSearch, AnotherPlanMustBeFasterThanTheNoise) {
  FasterPlan faster;
  EXPECT_TRUE(std::isinf(faster.milliseconds()));
  EXPECT_TRUE(faster(1));
  EXPECT_FALSE(faster(0.98F));
  EXPECT_TRUE(faster(0.96F));
  EXPECT_TRUE(faster(0.95F));
  EXPECT_FALSE(faster(0.95F));
  EXPECT_FLOAT_EQ(faster.milliseconds(), 0.95F);
}

}  // namespace
}  // namespace tutti::cuda
