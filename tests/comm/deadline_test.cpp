#include "comm/deadline.h"

#include <tutti/core/error.h>

#include <gtest/gtest.h>

#include <vector>

namespace tutti {
namespace {

class TestClock final : public Clock {
 public:
  [[nodiscard]] double now_s() override { return now; }
  void sleep_s(double seconds) override {
    now += seconds;
    sleeps.push_back(seconds);
  }
  double now = 1000;
  std::vector<double> sleeps;
};

TEST(WaitUntilDone, AsksAtOnce) {
  TestClock clock;
  EXPECT_EQ(wait_until_done([] { return CallState::kDone; }, 5, clock), CallState::kDone);
  EXPECT_EQ(wait_until_done([] { return CallState::kFailed; }, 5, clock), CallState::kFailed);
  EXPECT_TRUE(clock.sleeps.empty());
}

TEST(WaitUntilDone, AsksLessAndLessOften) {
  TestClock clock;
  int asked = 0;
  EXPECT_EQ(
      wait_until_done([&] { return ++asked < 100 ? CallState::kUnderWay : CallState::kDone; }, 5, clock),
      CallState::kDone);
  ASSERT_EQ(clock.sleeps.size(), 99U);
  EXPECT_LT(clock.sleeps.front(), 1e-4);
  EXPECT_EQ(clock.sleeps.back(), 10e-3);
  EXPECT_TRUE(std::is_sorted(clock.sleeps.begin(), clock.sleeps.end()));
}

TEST(WaitUntilDone, EndsAtTheDeadlineAndLooksOnceMore) {
  TestClock clock;
  double last_asked = 0;
  const auto never = [&] {
    last_asked = clock.now;
    return CallState::kUnderWay;
  };
  EXPECT_EQ(wait_until_done(never, 3, clock), CallState::kLate);
  EXPECT_NEAR(clock.now, 1003, 1e-9);
  EXPECT_NEAR(last_asked, 1003, 1e-9);
  // What comes to its end during the last sleep counts.
  EXPECT_EQ(wait_until_done([&] { return clock.now >= 1006 ? CallState::kDone : CallState::kUnderWay; },
                            1006 - clock.now, clock),
            CallState::kDone);
}

TEST(OperationWatch, TheOldestOperationIsLate) {
  OperationWatch watch(10);
  EXPECT_TRUE(watch.idle());
  EXPECT_EQ(watch.complaint(1e9), "");
  EXPECT_EQ(watch.issued("all_reduce of 5 fp32", 100), 0U);
  EXPECT_EQ(watch.issued("barrier", 101), 1U);
  EXPECT_EQ(watch.complaint(110), "");
  EXPECT_EQ(watch.complaint(110.5),
            "operation 0 (all_reduce of 5 fp32) has not ended within 10 s, 1 more wait behind it");
  // The second one can only begin when the first has ended.
  watch.ended(112);
  EXPECT_EQ(watch.complaint(121), "");
  EXPECT_EQ(watch.complaint(122.5), "operation 1 (barrier) has not ended within 10 s");
  watch.ended(123);
  EXPECT_TRUE(watch.idle());
  // Idle time counts for nothing.
  EXPECT_EQ(watch.issued("broadcast", 500), 2U);
  EXPECT_EQ(watch.complaint(509), "");
  EXPECT_NE(watch.complaint(511), "");
  EXPECT_EQ(watch.oldest(), "operation 2 (broadcast)");
}

TEST(OperationWatch, NothingEndsThatWasNotIssued) {
  OperationWatch watch(1);
  EXPECT_THROW(watch.ended(0), Error);
  EXPECT_THROW((void)watch.oldest(), Error);
}

}  // namespace
}  // namespace tutti
