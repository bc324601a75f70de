#include "comm/deadline.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

namespace tutti {
namespace {

class SteadyClock final : public Clock {
 public:
  [[nodiscard]] double now_s() override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  }
  void sleep_s(double seconds) override {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
};

}  // namespace

Clock& steady_clock() {
  static SteadyClock clock;
  return clock;
}

CallState wait_until_done(FunctionRef<CallState()> state, double deadline_s, Clock& clock) {
  constexpr double kShortest = 10e-6;
  constexpr double kLongest = 10e-3;
  const double end_s = clock.now_s() + deadline_s;
  double pause_s = kShortest;
  while (true) {
    const CallState now = state();
    if (now != CallState::kPending) return now;
    const double left_s = end_s - clock.now_s();
    if (left_s <= 0) return CallState::kTimedOut;
    clock.sleep_s(std::min(pause_s, left_s));
    pause_s = std::min(2 * pause_s, kLongest);
  }
}

uint64_t OperationWatchdog::issued(std::string what, double now_s) {
  waiting_.push_back({next_, std::move(what), now_s});
  return next_++;
}

std::string OperationWatchdog::oldest() const {
  require(!waiting_.empty(), "OperationWatchdog: no operation is pending");
  return fmt::format("operation {} ({})", waiting_.front().number, waiting_.front().what);
}

void OperationWatchdog::ended(double now_s) {
  require(!waiting_.empty(), "OperationWatchdog: no operation is pending");
  waiting_.pop_front();
  last_end_s_ = now_s;
}

std::string OperationWatchdog::overdue(double now_s) const {
  if (waiting_.empty()) return "";
  const double waited_s = now_s - std::max(last_end_s_, waiting_.front().issued_s);
  if (waited_s <= deadline_s_) return "";
  return fmt::format(
      "{} has not ended within {:g} s{}", oldest(), deadline_s_,
      waiting_.size() > 1 ? fmt::format(", {} more are queued after it", waiting_.size() - 1) : "");
}

}  // namespace tutti
