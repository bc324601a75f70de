#pragma once

#include <benchmark/benchmark.h>

#include <ctime>

#include <algorithm>
#include <limits>
#include <string>

namespace tutti::bench {

/// Seconds of CPU time of this thread, which neighbours on a shared machine disturb less than wall time; wall
/// time where several threads work.
inline double now_s(int threads) {
  timespec time{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Runs `ours` and `bare` in turns and reports the rate of both in their fastest turns, in GFLOP/s, and ours
/// over bare.
template <class Ours, class Bare>
void side_by_side(benchmark::State& state, int threads, double flops, Ours ours, Bare bare) {
  ours();
  bare();
  double ours_s = std::numeric_limits<double>::max();
  double bare_s = ours_s;
  for (auto _ : state) {
    const double begin = now_s(threads);
    ours();
    const double middle = now_s(threads);
    bare();
    const double end = now_s(threads);
    ours_s = std::min(ours_s, middle - begin);
    bare_s = std::min(bare_s, end - middle);
    state.SetIterationTime(middle - begin);
  }
  state.counters["GFLOP/s"] = flops / ours_s * 1e-9;
  state.counters["bare"] = flops / bare_s * 1e-9;
  state.counters["of_bare"] = bare_s / ours_s;
}

}  // namespace tutti::bench
