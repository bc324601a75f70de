// The same bits for any number of ranks: real models, operations and optimizers, trained in several worlds.
#include <tests/models/tiny_models.h>

#include <tutti/comm/data_parallel.h>
#include <tutti/comm/threads.h>
#include <tutti/core/io/sha256.h>
#include <tutti/core/train/trainer.h>
#include <tutti/kernels/optimizer.h>

#include <gtest/gtest.h>

#include <mutex>

namespace tutti {
namespace {

constexpr int64_t kSteps = 50;

struct Conditions {
  std::string model;
  std::string algorithm = "adamw";
  DType compute = DType::kFloat32;
  Sharding state = Sharding::kReplicated;
  int64_t microbatch = 0;
};

struct Outcome {
  std::vector<double> losses;
  std::string digest;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

/// The rows of each step's global batch that a rank needs. Every third batch is shorter, and smaller than the
/// number of shards.
class GlobalBatches final : public BatchSource {
 public:
  GlobalBatches(std::span<const Batch> batches, Task& task, const Parallel& parallel, int64_t microbatch)
      : batches_(batches), task_(task), parallel_(parallel), microbatch_(microbatch) {}
  [[nodiscard]] int64_t samples(int64_t step) const override { return batch(step).samples(); }
  [[nodiscard]] double predictions(int64_t step) const override { return task_.predictions(batch(step)); }
  [[nodiscard]] double epoch(int64_t) const override { return 0; }
  std::vector<Batch> next() override {
    const Batch& whole = batch(step_);
    std::vector<Batch> all;
    for (const auto& row : microbatches(parallel_.shards(samples(step_)), microbatch_)) {
      for (const auto& range : row) {
        all.push_back(
            {whole.inputs.slice(0, range.begin, range.end), whole.targets.slice(0, range.begin, range.end)});
        all.back().first_sample = range.begin;
      }
    }
    ++step_;
    return all;
  }

 private:
  [[nodiscard]] const Batch& batch(int64_t step) const { return batches_[static_cast<size_t>(step)]; }

  std::span<const Batch> batches_;
  Task& task_;
  const Parallel& parallel_;
  int64_t microbatch_;
  int64_t step_ = 0;
};

struct Losses final : Observer {
  void on_step(const StepReport& report) override { all.push_back(report.loss); }
  std::vector<double> all;
};

ModelConfig model_named(const std::string& wanted) {
  for (const auto& [name, config] : test::tiny_models()) {
    if (name == wanted) return config;
  }
  fail("no model {}", wanted);
}

Outcome train(Collective& world, const Conditions& conditions, std::span<const Batch> data, uint64_t seed) {
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const std::unique_ptr<Task> task = make_task(model_named(conditions.model));
  const auto groups = make_param_groups(task->model(),
                                        {.precision = {.compute = conditions.compute},
                                         .placement = {.state = conditions.state},
                                         .shard = {world.rank(), world.size()},
                                         .seed = seed,
                                         .bucket_bytes = 4096},
                                        stream);
  OptimizerConfig rule;
  rule.algorithm = conditions.algorithm;
  rule.learning_rate = 0.003;
  Optimizer optimizer(rule, groups, stream);
  DataParallel parallel(world, groups, {}, stream);
  GlobalBatches batches(data, *task, parallel, conditions.microbatch);
  Losses losses;
  const TrainerParts parts{.task = *task,
                           .parallel = parallel,
                           .optimizer = optimizer,
                           .training = batches,
                           .observers = {&losses},
                           .stream = stream,
                           .seed = seed};
  (void)Trainer({.steps = kSteps, .batch = 13, .microbatch = conditions.microbatch}, {}, parts).run();
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Parameter* p : task->model().parameters()) tensors.emplace_back(p->name, p->value);
  return {losses.all, params_sha256(tensors)};
}

class Ordered : public test::RandomTest {
 protected:
  void gives_the_same_bits(const Conditions& conditions) {
    const auto seed = static_cast<uint64_t>(random.integer(0, 1 << 30));
    std::vector<Batch> data;
    data.reserve(kSteps);
    for (int64_t step = 0; step < kSteps; ++step) {
      data.push_back(test::random_batch(model_named(conditions.model), step % 3 == 2 ? 3 : 13, random));
      Tensor& inputs = data.back().inputs;
      if (is_floating(inputs.dtype())) inputs = inputs.to(DType::kFloat32, test::stream());
    }
    const Outcome alone = train(*make_self_collective(), conditions, data, seed);
    ASSERT_EQ(alone.losses.size(), static_cast<size_t>(kSteps));
    for (const int ranks : {1, 2, 3, 4}) {
      SCOPED_TRACE(fmt::format("{}, {} ranks", conditions.model, ranks));
      std::mutex mutex;
      std::vector<Outcome> all;
      run_ranks(ranks, [&](Collective& world) {
        Outcome mine = train(world, conditions, data, seed);
        const std::scoped_lock lock(mutex);
        all.push_back(std::move(mine));
      });
      for (const Outcome& outcome : all) {
        EXPECT_EQ(outcome, all.front());
        if (ranks != 3) {
          EXPECT_EQ(outcome, alone);
          continue;
        }
        const double tolerance = conditions.compute == DType::kFloat32 ? 2e-3 : 5e-2;
        for (size_t i = 0; i < alone.losses.size(); ++i) {
          EXPECT_NEAR(outcome.losses[i], alone.losses[i], tolerance * (1 + std::abs(alone.losses[i])));
        }
      }
    }
  }
};

TEST_F(Ordered, GptWithDropout) {
  gives_the_same_bits({.model = "gpt2"});
}

TEST_F(Ordered, LlamaInBf16WithShardedStateAndMicrobatches) {
  gives_the_same_bits(
      {.model = "llama", .compute = DType::kBFloat16, .state = Sharding::kSharded, .microbatch = 2});
}

TEST_F(Ordered, GptWithMuon) {
  gives_the_same_bits({.model = "gpt2", .algorithm = "muon"});
}

TEST_F(Ordered, ResNet) {
  gives_the_same_bits({.model = "resnet18", .algorithm = "sgd"});
}

}  // namespace
}  // namespace tutti
