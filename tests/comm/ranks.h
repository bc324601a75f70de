#pragma once

#include <tutti/comm/threads.h>

#include <gtest/gtest.h>

#include <functional>

namespace tutti::test {

using Body = std::function<void(Collective& world)>;

/// Provides the ranks for the tests of this program: threads by default, in worlds of 1 to 4, and a world of
/// one without communication. The MPI test program sets its own world.
inline std::function<void(const Body&)>& ranks_provider() {
  static std::function<void(const Body&)> provider = [](const Body& body) {
    {
      SCOPED_TRACE("self");
      body(*make_self_collective());
    }
    for (int n = 1; n <= 4; ++n) {
      SCOPED_TRACE(n);
      run_ranks(n, body);
    }
  };
  return provider;
}

/// Runs `body` on every rank of each world that this program has.
inline void on_ranks(const Body& body) {
  ranks_provider()(body);
}

/// The device of the tensors in the tests of this program.
inline Device& test_device() {
  static Device device;
  return device;
}

/// A compute stream of a rank with its own pool.
struct RankStream {
  ThreadPool pool{1};
  Stream stream =
      test_device().type == DeviceType::kCpu
          ? Stream::inline_on(pool)
          : Stream::cuda(test_device().index, Stream::Priority::kNormal, AlgorithmSelection::kHeuristic);
};

}  // namespace tutti::test
