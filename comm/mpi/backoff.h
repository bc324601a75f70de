#pragma once

#include <algorithm>
#include <chrono>
#include <thread>

namespace tutti {

/// Backoff for polling without taking a core from threads that compute: a few spins for events that occur
/// immediately, then sleeps of an eighth of the time waited so far. A wait is at most an eighth longer than
/// necessary and, after a millisecond, uses almost no CPU time.
class Backoff {
 public:
  /// The next pause. Zero: poll again immediately.
  std::chrono::nanoseconds pause() {
    if (++polls_ <= kSpins) return {};
    const auto now = std::chrono::steady_clock::now();
    if (polls_ == kSpins + 1) begin_ = now;
    return std::clamp<std::chrono::nanoseconds>((now - begin_) / 8, kShortest, kLongest);
  }
  void reset() { polls_ = 0; }

 private:
  static constexpr int kSpins = 200;
  static constexpr std::chrono::microseconds kShortest{20};
  static constexpr std::chrono::microseconds kLongest{1000};
  int polls_ = 0;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace tutti
