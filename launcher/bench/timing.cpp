#include "launcher/bench/timing.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

namespace tutti {
namespace {

constexpr int kSamples = 7;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double time_calls(const Stream& stream, int64_t calls, FunctionRef<void()> work) {
  stream.synchronize();
  const double begin = now_s();
  for (int64_t i = 0; i < calls; ++i) work();
  stream.synchronize();
  return now_s() - begin;
}

}  // namespace

Timing measure(const Stream& stream, double budget_s, FunctionRef<void()> work) {
  (void)time_calls(stream, 1, work);  // the first call selects algorithms and allocates memory
  const double guess = std::max(time_calls(stream, 1, work), 1e-7);
  const double wanted = std::floor(budget_s / kSamples / guess);
  const auto calls = static_cast<int64_t>(std::clamp(wanted, 1.0, 1e6));
  std::vector<double> samples;
  samples.reserve(kSamples);
  const double end = now_s() + budget_s;
  while (samples.size() < 3 || (samples.size() < kSamples && now_s() < end)) {
    samples.push_back(time_calls(stream, calls, work) / static_cast<double>(calls));
  }
  std::sort(samples.begin(), samples.end());
  return {.seconds = samples[samples.size() / 2],
          .best_s = samples.front(),
          .calls_timed = calls * static_cast<int64_t>(samples.size())};
}

}  // namespace tutti
