#pragma once

#include <benchmark/benchmark.h>

#include <ctime>

#include <algorithm>
#include <limits>
#include <string>

namespace tutti::bench {

/// Seconds of CPU time of this thread, which varies less than wall time on a shared machine; wall time for
/// more than one thread.
inline double now_s(int threads) {
  timespec time{};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

/// Runs `ours` and `bare` alternately and reports the rates of their fastest runs in GFLOP/s, and the ratio
/// of ours to bare.
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
