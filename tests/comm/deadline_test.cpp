#include "comm/deadline.h"

#include <tutti/core/error.h>

#include <gtest/gtest.h>

#include <algorithm>
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

TEST(WaitUntilDone, PollsAtOnce) {
  TestClock clock;
  EXPECT_EQ(wait_until_done([] { return CallState::kDone; }, 5, clock), CallState::kDone);
  EXPECT_EQ(wait_until_done([] { return CallState::kFailed; }, 5, clock), CallState::kFailed);
  EXPECT_TRUE(clock.sleeps.empty());
}

TEST(WaitUntilDone, PollsLessOverTime) {
  TestClock clock;
  int polls = 0;
  EXPECT_EQ(wait_until_done([&] { return ++polls < 100 ? CallState::kPending : CallState::kDone; }, 5, clock),
            CallState::kDone);
  ASSERT_EQ(clock.sleeps.size(), 99U);
  EXPECT_LT(clock.sleeps.front(), 1e-4);
  EXPECT_EQ(clock.sleeps.back(), 10e-3);
  EXPECT_TRUE(std::is_sorted(clock.sleeps.begin(), clock.sleeps.end()));
}

TEST(WaitUntilDone, EndsAtTheDeadlineAfterAFinalPoll) {
  TestClock clock;
  double last_asked = 0;
  const auto never = [&] {
    last_asked = clock.now;
    return CallState::kPending;
  };
  EXPECT_EQ(wait_until_done(never, 3, clock), CallState::kTimedOut);
  EXPECT_NEAR(clock.now, 1003, 1e-9);
  EXPECT_NEAR(last_asked, 1003, 1e-9);
  // A call that ends during the last sleep is done.
  EXPECT_EQ(wait_until_done([&] { return clock.now >= 1006 ? CallState::kDone : CallState::kPending; },
                            1006 - clock.now, clock),
            CallState::kDone);
}

TEST(OperationWatchdog, TheOldestOperationIsLate) {
  OperationWatchdog watchdog(10);
  EXPECT_TRUE(watchdog.idle());
  EXPECT_EQ(watchdog.overdue(1e9), "");
  EXPECT_EQ(watchdog.issued("all_reduce of 5 fp32", 100), 0U);
  EXPECT_EQ(watchdog.issued("barrier", 101), 1U);
  EXPECT_EQ(watchdog.overdue(110), "");
  EXPECT_EQ(watchdog.overdue(110.5),
            "operation 0 (all_reduce of 5 fp32) has not ended within 10 s, 1 more are queued after it");
  // The second operation can begin only when the first has ended.
  watchdog.ended(112);
  EXPECT_EQ(watchdog.overdue(121), "");
  EXPECT_EQ(watchdog.overdue(122.5), "operation 1 (barrier) has not ended within 10 s");
  watchdog.ended(123);
  EXPECT_TRUE(watchdog.idle());
  // Idle time is not counted.
  EXPECT_EQ(watchdog.issued("broadcast", 500), 2U);
  EXPECT_EQ(watchdog.overdue(509), "");
  EXPECT_NE(watchdog.overdue(511), "");
  EXPECT_EQ(watchdog.oldest(), "operation 2 (broadcast)");
}

TEST(OperationWatchdog, OnlyIssuedOperationsCanEnd) {
  OperationWatchdog watchdog(1);
  EXPECT_THROW(watchdog.ended(0), Error);
  EXPECT_THROW((void)watchdog.oldest(), Error);
}

}  // namespace
}  // namespace tutti
