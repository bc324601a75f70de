// The same bits for any number of ranks: a small model, trained by the real training loop in several worlds.
#include "tests/comm/data_parallel_fixture.h"

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <random>
#include <sstream>

namespace tutti::test {
namespace {

TEST(DataParallel, OrderedModeGivesTheSameBits) {
  const Outcome plain = train_alone({});
  EXPECT_LT(plain.losses[9], 0.5 * plain.losses[0]);
  for (const int64_t microbatch : {int64_t{0}, int64_t{2}}) {
    for (const DType compute : {DType::kFloat32, DType::kBFloat16}) {
      const RunSettings setup{.compute = compute, .microbatch = microbatch};
      const Outcome alone = train_alone(setup);
      on_ranks([&](Collective& world) {
        for (const Sharding state : {Sharding::kReplicated, Sharding::kSharded}) {
          RunSettings mine = setup;
          mine.state = state;
          const Outcome together = train(world, mine);
          if (world.size() == 3)
            expect_near(together, alone, compute == DType::kFloat32 ? 1e-5 : 2e-2);
          else
            expect_equal(together, alone);
        }
      });
    }
  }
}

TEST(DataParallel, MoreThanTwoShardsPerRank) {
  const RunSettings setup{.parallel = {.logical_shards = 16}};
  const Outcome alone = train_alone(setup);
  on_ranks([&](Collective& world) {
    const Outcome together = train(world, setup);
    if (world.size() == 3)
      expect_near(together, alone, 1e-5);
    else
      expect_equal(together, alone);
  });
}

TEST(DataParallel, FastModeAgreesToRounding) {
  const Outcome ordered = train_alone({});
  on_ranks([&](Collective& world) {
    for (const int64_t microbatch : {int64_t{0}, int64_t{3}}) {
      // "rare" depends on the division into microbatches: only worlds with the same one can be compared.
      const RunSettings setup{.parallel = {.mode = "fast"}, .microbatch = microbatch};
      const Outcome once = train(world, setup);
      expect_equal(train(world, setup), once);
      EXPECT_LT(once.losses[9], 0.5 * once.losses[0]);
      RunSettings coarse = setup;
      coarse.parallel.reduce_dtype = DType::kBFloat16;
      expect_near(train(world, coarse), once, 2e-2);
      if (world.size() == 4 && microbatch == 0) expect_near(once, ordered, 1e-5);
    }
  });
}

/// Counts completed reductions; all groups created from it share the count.
class Counting final : public Collective {
 public:
  struct Count {
    std::mutex mutex;
    std::condition_variable changed;
    int value = 0;
    /// False if the count has not reached `wanted` within a minute, which is a defect.
    bool reaches(int wanted) {
      std::unique_lock lock(mutex);
      return changed.wait_for(lock, std::chrono::minutes(1), [&] { return value >= wanted; });
    }
  };
  Counting(std::unique_ptr<Collective> inner, Count& count) : inner_(std::move(inner)), count_(count) {}
  [[nodiscard]] int rank() const noexcept override { return inner_->rank(); }
  [[nodiscard]] int size() const noexcept override { return inner_->size(); }
  void abort(std::string_view reason) noexcept override { inner_->abort(reason); }

 protected:
  void on_all_reduce(const Tensor& inout, Reduce op, const Executor& executor) override {
    inner_->all_reduce(inout, op, Stream::inline_on(*executor.pool));
    const std::scoped_lock lock(count_.mutex);
    ++count_.value;
    count_.changed.notify_all();
  }
  void on_reduce_scatter(const Tensor& output, const Tensor& input, Reduce op,
                         const Executor& executor) override {
    inner_->reduce_scatter(output, input, op, Stream::inline_on(*executor.pool));
  }
  void on_all_gather(const Tensor& output, const Tensor& input, const Executor&) override {
    inner_->all_gather(output, input, compute_.stream);
  }
  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor&) override {
    inner_->all_to_all(output, input, compute_.stream);
  }
  void on_broadcast(const Tensor& inout, int root, const Executor&) override {
    inner_->broadcast(inout, root, compute_.stream);
  }
  void on_send(const Tensor& tensor, int to, const Executor&) override {
    inner_->send(tensor, to, compute_.stream);
  }
  void on_recv(const Tensor& tensor, int from, const Executor&) override {
    inner_->recv(tensor, from, compute_.stream);
  }
  void on_barrier(const Executor&) override { inner_->barrier(compute_.stream); }
  std::unique_ptr<Collective> on_split(int color, int key) override {
    return std::make_unique<Counting>(inner_->split(color, key), count_);
  }

 private:
  std::unique_ptr<Collective> inner_;
  Count& count_;
  RankStream compute_;
};

TEST(DataParallel, GroupsAreReducedDuringBackward) {
  on_ranks([](Collective& world) {
    for (const char* mode : {"ordered", "fast"}) {
      const RankStream compute;
      Counting::Count count;
      Counting counting(world.split(0, world.rank()), count);
      Net net;
      net.name_parameters();
      // One group per parameter: first, unused, tied, rare, last.
      const auto groups = make_param_groups(net, {.seed = kSeed, .bucket_bytes = 1}, compute.stream);
      DataParallel parallel(counting, groups, {.mode = mode}, compute.stream);
      parallel.begin_step();
      const size_t shards = parallel.shards(100).size();
      for (size_t shard = 0; shard < shards; ++shard) {
        parallel.begin_shard(shard);
        Tape tape(compute.stream);
        Var h = affine(tape, Var(Tensor::full({2, kInputs}, 1, DType::kFloat32, compute.stream)),
                       tape.leaf(net.first));
        h = tape.on_backward(h, [&] {
          if (shard + 1 < shards) {
            EXPECT_EQ(count.value, 0) << "sent before the last shard";
          } else {
            // "last", "rare" and "tied" are complete; their reductions end while backward waits here.
            EXPECT_TRUE(count.reaches(3)) << mode;
          }
        });
        h = affine(tape, affine(tape, h, tape.leaf(net.tied)), tape.leaf(net.rare));
        h = affine(tape, h, tape.leaf(net.last));
        parallel.register_hooks(tape, true);
        tape.backward(h, Tensor::full(h.shape(), 1, DType::kFloat32, compute.stream));
        parallel.end_shard(shard);
      }
      parallel.finish_step();
      EXPECT_EQ(count.value, 5) << "not once per group";
      for (const float x : net.unused.grad.span<float>()) EXPECT_EQ(x, 0);
      const float every = net.last.grad.data<float>()[0];
      parallel.begin_step();  // a second step, without state of the first
      for (size_t shard = 0; shard < shards; ++shard) {
        parallel.begin_shard(shard);
        parallel.end_shard(shard);
      }
      parallel.finish_step();
      EXPECT_NE(every, 0);
      EXPECT_EQ(net.last.grad.data<float>()[0], 0);
    }
  });
}

TEST(DataParallel, DifferentWeightsAreRefused) {
  on_ranks([](Collective& world) {
    if (world.size() == 1) return;
    const RankStream compute;
    Net net;
    net.name_parameters();
    const auto groups = make_param_groups(net, {.seed = kSeed, .bucket_bytes = kBucketBytes}, compute.stream);
    if (world.rank() == 1) net.rare.value.data<float>()[100] += 1;
    try {
      DataParallel parallel(world, groups, {}, compute.stream);
      FAIL() << "different weights must be refused";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("rare"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("rank 1 differ"), std::string::npos) << error.what();
    }
  });
}

TEST(DataParallel, ImpossibleSettings) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    const auto make = [&](const DataParallelConfig& config) {
      DataParallel parallel(world, {}, config, compute.stream);
    };
    EXPECT_THROW(make({.mode = "quick"}), Error);
    EXPECT_THROW(make({.logical_shards = 12}), Error);
    EXPECT_THROW(make({.reduce_dtype = DType::kBFloat16}), Error);
    if (world.size() > 2) {
      EXPECT_THROW(make({.logical_shards = 2}), Error);
    }
  });
}

TEST(DataParallel, OrderedModeRequiresHeuristicSelection) {
  EXPECT_EQ(DataParallelConfig{.mode = "ordered"}.algorithm_selection(), AlgorithmSelection::kHeuristic);
  EXPECT_EQ(DataParallelConfig{.mode = "fast"}.algorithm_selection(), AlgorithmSelection::kAutotuned);
  EXPECT_EQ(DataParallelConfig{}.algorithm_selection(), AlgorithmSelection::kAutotuned)
      << "auto is not fast on GPUs";
  if (test_device().type == DeviceType::kCpu) return;
  on_ranks([](Collective& world) {
    const RankStream compute;
    EXPECT_THROW(DataParallel(world, {}, {.mode = "ordered", .logical_shards = 8},
                              Stream::cuda(test_device().index, Stream::Priority::kNormal,
                                           AlgorithmSelection::kAutotuned)),
                 Error);
    world.barrier(compute.stream);
  });
}

TEST(DataParallel, ShardsCoverTheBatch) {
  on_ranks([](Collective& world) {
    const RankStream compute;
    for (const char* mode : {"ordered", "fast"}) {
      DataParallel parallel(world, {}, {.mode = mode, .logical_shards = 8}, compute.stream);
      for (const int64_t samples : {0, 1, 5, 8, 31}) {
        const auto mine = parallel.shards(samples);
        std::string text;
        for (const auto& s : mine) text += fmt::format("{} {};", s.begin, s.end);
        int64_t next = 0;
        for (const std::string& part : parallel.peers().all_gather(text)) {
          std::istringstream in(part);
          int64_t begin = 0, end = 0;
          char c = 0;
          while (in >> begin >> end >> c) {
            EXPECT_EQ(begin, next);
            EXPECT_GE(end, begin);
            next = end;
          }
        }
        EXPECT_EQ(next, samples);
        EXPECT_EQ(mine.size(), parallel.shards(0).size());
      }
    }
  });
}

TEST(DataParallel, SumsOfNumbersFollowTheTree) {
  std::mt19937 engine(7);
  std::uniform_real_distribution<double> draw(-1e9, 1e9);
  std::vector<std::vector<double>> leaves(8, std::vector<double>(3));
  for (auto& leaf : leaves) {
    for (double& x : leaf) x = draw(engine) * std::exp2(draw(engine) * 2e-8);
  }
  on_ranks([&](Collective& world) {
    const RankStream compute;
    DataParallel parallel(world, {}, {.logical_shards = 8}, compute.stream);
    // Shard i of 8 is sample i of 8.
    std::vector<std::vector<double>> mine;
    for (const auto& shard : parallel.shards(8)) mine.push_back(leaves[static_cast<size_t>(shard.begin)]);
    const std::vector<double> total = parallel.sum(mine);
    for (size_t k = 0; k < 3; ++k) {
      const auto leaf = [&](size_t i) { return leaves[i][k]; };
      const double want =
          ((leaf(0) + leaf(1)) + (leaf(2) + leaf(3))) + ((leaf(4) + leaf(5)) + (leaf(6) + leaf(7)));
      if (world.size() == 3)
        EXPECT_NEAR(total[k], want, 1e-3 * std::abs(want));
      else
        EXPECT_EQ(total[k], want);
    }
  });
}

}  // namespace
}  // namespace tutti::test
