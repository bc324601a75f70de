#pragma once

#include <cstdint>
#include <limits>

namespace tutti::cuda {

/// Chooses among plans that are measured one after the other, the best by estimate first: another must be 3 %
/// faster than that, so that the noise of measurements does not choose.
class FasterPlan {
 public:
  /// Whether the plan of this time is the choice so far.
  bool operator()(float milliseconds) noexcept {
    if (milliseconds >= limit_) return false;
    limit_ = limit_ == std::numeric_limits<float>::infinity() ? 0.97F * milliseconds : milliseconds;
    best_ = milliseconds;
    return true;
  }
  /// Of the choice; infinite if there is none.
  [[nodiscard]] float milliseconds() const noexcept { return best_; }

 private:
  float limit_ = std::numeric_limits<float>::infinity();
  float best_ = std::numeric_limits<float>::infinity();
};

/// Runs the first of the plans [from, count) that can be built and run, and returns it; -1 if there is none.
/// `build(i)` and `run(i)` return whether they succeeded.
template <class Build, class Run>
int64_t run_first(int64_t from, int64_t count, Build build, Run run) {
  for (int64_t i = from; i < count; ++i) {
    if (build(i) && run(i)) return i;
  }
  return -1;
}

}  // namespace tutti::cuda
