// Properties of the threads backend: if a rank fails, the others must not wait for it.
#include <tutti/comm/factory.h>
#include <tutti/comm/threads.h>

#include <gtest/gtest.h>

#include <atomic>

namespace tutti {
namespace {

TEST(Threads, ARankThatThrowsEndsTheOthers) {
  using Wait = std::function<void(Collective&, const Tensor&, const Stream&)>;
  const std::vector<Wait> waits = {
      [](Collective& world, const Tensor& t, const Stream& s) { world.all_reduce(t, Reduce::kSum, s); },
      [](Collective& world, const Tensor& t, const Stream& s) { world.send(t, world.size() - 1, s); },
      [](Collective& world, const Tensor& t, const Stream& s) { world.recv(t, world.size() - 1, s); },
      [](Collective& world, const Tensor&, const Stream& s) { world.barrier(s); },
      [](Collective& world, const Tensor&, const Stream&) { (void)world.split(0, 0); },
      [](Collective& world, const Tensor& t, const Stream&) {
        const Stream queue = Stream::queued("comm");
        world.all_reduce(t, Reduce::kSum, queue);
        queue.synchronize();
      },
  };
  for (const Wait& wait : waits) {
    for (const int ranks : {2, 3, 4}) {
      std::atomic<int> ended{0};
      try {
        run_ranks(ranks, [&](Collective& world) {
          ThreadPool pool(1);
          const Stream on = Stream::inline_on(pool);
          const auto group = world.split(0, world.rank());  // an abort ends every group
          if (world.rank() == ranks - 1) fail("no more disk");
          const Tensor t = Tensor::zeros({100}, DType::kFloat32, on);
          try {
            wait(*group, t, on);
          } catch (const Error& error) {
            EXPECT_EQ(std::string(error.what()), fmt::format("rank {} aborted: no more disk", ranks - 1));
            ++ended;
            throw;
          }
        });
        FAIL() << "the exception must be rethrown here";
      } catch (const Error& error) {
        EXPECT_STREQ(error.what(), "no more disk");
      }
      EXPECT_EQ(ended, ranks - 1);
    }
  }
}

TEST(Factory, RunsTheRequestedBackend) {
  std::atomic<int> ranks{0};
  run_world({.backend = "threads", .threads = 3}, [&](Collective& world) {
    EXPECT_EQ(world.size(), 3);
    ranks += 1 + world.rank();
  });
  EXPECT_EQ(ranks, 6);
  run_world({.backend = "self"}, [&](Collective& world) { EXPECT_EQ(world.size(), 1); });
  EXPECT_THROW(run_world({.backend = "unknown"}, [](Collective&) {}), Error);
  EXPECT_THROW(run_world({.backend = "self"}, [](Collective&) { fail("as it is"); }), Error);
  EXPECT_THROW(run_ranks(0, [](Collective&) {}), Error);
}

}  // namespace
}  // namespace tutti
