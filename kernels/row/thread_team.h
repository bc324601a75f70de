#pragma once

#include "kernels/row/team.h"

#include <algorithm>
#include <barrier>
#include <thread>
#include <vector>

namespace tutti {

/// Several threads as the lanes of a row: detects races and missing barriers in a row program without a GPU.
class ThreadTeam {
 public:
  [[nodiscard]] int64_t lane() const { return lane_; }
  [[nodiscard]] int64_t lanes() const { return static_cast<int64_t>(shared_.values.size()); }

  template <class T>
  T sum(T x) {
    return reduce(x, [](double a, double b) { return a + b; });
  }
  template <class T>
  T max(T x) {
    return reduce(x, [](double a, double b) { return std::max(a, b); });
  }
  void barrier() { shared_.barrier.arrive_and_wait(); }

  /// Calls `program(team)` on `lanes` threads and returns when all are done.
  template <class Program>
  static void run(int lanes, const Program& program) {
    Shared shared(lanes);
    std::vector<std::jthread> threads;
    for (int lane = 0; lane < lanes; ++lane) {
      threads.emplace_back([&shared, &program, lane] {
        ThreadTeam team(shared, lane);
        program(team);
      });
    }
  }

 private:
  struct Shared {
    explicit Shared(int lanes) : values(static_cast<size_t>(lanes)), barrier(lanes) {}
    std::vector<double> values;
    std::barrier<> barrier;
  };
  ThreadTeam(Shared& shared, int64_t lane) : shared_(shared), lane_(lane) {}

  template <class T, class Combine>
  T reduce(T x, Combine combine) {
    shared_.values[static_cast<size_t>(lane_)] = static_cast<double>(x);
    barrier();
    double result = shared_.values[0];
    for (size_t i = 1; i < shared_.values.size(); ++i) result = combine(result, shared_.values[i]);
    barrier();  // all threads have read the values before the next reduction writes them
    return static_cast<T>(result);
  }

  Shared& shared_;
  int64_t lane_;
};

}  // namespace tutti
