#include <tutti/core/error.h>
#include <tutti/core/stream.h>
#include <tutti/core/thread_pool.h>
#include "core/affinity.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <atomic>
#include <numeric>
#include <thread>
#include <vector>

namespace tutti {
namespace {

TEST(ThreadPool, RunsEachTaskOnceAndRethrowsAfterTheRest) {
  for (const int threads : {1, 2, 3}) {
    ThreadPool pool(threads);
    std::vector<std::atomic<int>> runs(1001);
    pool.parallel_for(1001, [&](int64_t i) { ++runs[static_cast<size_t>(i)]; });
    for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
    EXPECT_THROW(pool.parallel_for(50, [](int64_t i) { require(i != 7, "task {}", i); }), Error);
    std::atomic<int64_t> sum{0};
    pool.parallel_ranges(10, 3, [&](int64_t begin, int64_t end) { sum += end - begin; });
    EXPECT_EQ(sum.load(), 10);
  }
}

TEST(ThreadPool, AFailedBindingIsAnErrorAndLeavesNoThread) {
  // A CPU that no test machine has. The worker is running when its binding fails.
  const int missing = CPU_SETSIZE - 1;
  EXPECT_THROW(ThreadPool(2, {0, missing}), Error);
  EXPECT_THROW(ThreadPool(3, {0, usable_core_list().front(), missing}), Error);
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(2, {0}), Error);
}

TEST(ThreadPool, UnboundThreadsMayUseAllCores) {
  const std::vector<int> all = usable_core_list();
  std::thread([&] {  // the test's own thread is not changed
    ThreadPool pool(1, {all.back()});
    pool.bind_caller();
    EXPECT_EQ(usable_core_list(), std::vector<int>{all.back()});
    std::vector<int> seen;
    const Stream queued = Stream::queued("beside");
    queued.run([&] { seen = usable_core_list(); });
    queued.synchronize();
    EXPECT_EQ(seen, all);
    std::thread([&] {
      EXPECT_EQ(usable_core_list(), std::vector<int>{all.back()});
      unbind_caller();
      EXPECT_EQ(usable_core_list(), all);
    }).join();
  })
      .join();
}

}  // namespace
}  // namespace tutti
