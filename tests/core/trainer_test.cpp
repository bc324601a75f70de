#include "tests/core/training_parts.h"

#include <limits>

namespace tutti {
namespace {

TEST_F(TrainerTest, MatchesTheFormulaForAnyMicrobatch) {
  double w = 5;
  std::vector<double> losses;
  for (int step = 0; step < 5; ++step) {
    const int n = step % 3 == 2 ? 2 : 7;
    double loss = 0;
    double slope = 0;
    for (int i = 0; i < n; ++i) {
      const double x = 0.1 * (step + i);
      loss += (w - x) * (w - x) / 2 / n;
      slope += (w - x) / n;
    }
    losses.push_back(loss);
    w -= 0.5 * slope / std::max(1.0, std::abs(slope));
  }
  for (const int64_t s : {1, 2, 4, 8}) {
    for (const int64_t m : {0, 1, 3}) {
      shards = s;
      config.microbatch = m;
      Log log;
      Trainer trainer(config, schedule, parts(log));
      const TrainResult result = trainer.run();
      EXPECT_EQ(result.reason, TrainResult::Reason::kCompleted);
      EXPECT_NEAR(task.net.weight.value.item(), w, 1e-12);
      ASSERT_EQ(log.steps.size(), 5U);
      for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(log.steps[i].loss, losses[i], 1e-12);
      EXPECT_EQ(result.samples, 7 + 7 + 2 + 7 + 7);
    }
  }
}

TEST_F(TrainerTest, ContextHasSamplesAndShares) {
  shards = 2;
  config.steps = 1;
  config.microbatch = 2;
  Log log;
  Trainer(config, schedule, parts(log)).run();
  double share = 0;
  int64_t next = 0;
  for (const StepContext& c : task.contexts) {
    EXPECT_EQ(c.first_sample, next);
    EXPECT_EQ(c.seed, 9U);
    next += c.samples;
    share += c.batch_share;
  }
  EXPECT_EQ(next, 7);
  EXPECT_NEAR(share, 1, 1e-12);
  EXPECT_EQ(parallel->last_microbatches, 2);
}

TEST_F(TrainerTest, NonFiniteStepsAreSkippedThenEndTheRun) {
  Log log;
  TrainerParts p = parts(log);
  numbers->poison_at = 2;
  EXPECT_EQ(Trainer(config, schedule, p).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_TRUE(log.steps[2].skipped);
  EXPECT_FALSE(log.steps[3].skipped);
  EXPECT_TRUE(std::isfinite(task.net.weight.value.item()));

  Log second;
  TrainerParts again = parts(second);
  config.max_skipped_steps = 1;
  task.net.weight.value.data<double>()[0] = std::numeric_limits<double>::infinity();
  int saves = 0;
  again.save = [&](int64_t step, OlderCheckpoints) {
    ++saves;
    return CheckpointReport{.step = step};
  };
  EXPECT_EQ(Trainer(config, schedule, again).run().reason, TrainResult::Reason::kNotFinite);
  EXPECT_EQ(second.steps.size(), 2U);
  EXPECT_EQ(saves, 0);

  // Weights that are not finite do not replace older checkpoints.
  Log third;
  TrainerParts wild = parts(third);
  std::vector<int64_t> saved;
  wild.save_every = 1;
  wild.save = [&](int64_t step, OlderCheckpoints) {
    saved.push_back(step);
    return CheckpointReport{.step = step};
  };
  numbers->poison_at = 2;
  config.max_skipped_steps = 3;
  EXPECT_EQ(Trainer(config, schedule, wild).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_EQ(saved, (std::vector<int64_t>{1, 2, 4, 5}));

  // Nor at the last step, which would be saved otherwise.
  Log fourth;
  TrainerParts bad_end = parts(fourth);
  saved.clear();
  bad_end.save_every = 2;
  bad_end.save = wild.save;
  numbers->poison_at = 4;
  EXPECT_EQ(Trainer(config, schedule, bad_end).run().reason, TrainResult::Reason::kNotFinite);
  EXPECT_EQ(saved, (std::vector<int64_t>{2, 4}));

  // A stop after such a step saves, and deletes no older checkpoint.
  for (const int64_t poison_at : {int64_t{0}, int64_t{1}}) {
    Log fifth;
    TrainerParts stopped = parts(fifth);
    std::vector<OlderCheckpoints> older;
    stopped.save = [&](int64_t step, OlderCheckpoints what) {
      older.push_back(what);
      return CheckpointReport{.step = step};
    };
    stopped.stop_requested = [&] { return fifth.steps.size() == 1; };
    numbers->poison_at = poison_at;
    EXPECT_EQ(Trainer(config, schedule, stopped).run().reason, TrainResult::Reason::kStopped);
    EXPECT_EQ(older, std::vector{poison_at == 0 ? OlderCheckpoints::kKeep : OlderCheckpoints::kDelete});
  }
}

TEST_F(TrainerTest, StructsAreCheckedLikeRunFiles) {
  Log log;
  ScheduleConfig linear{.kind = "linear"};
  EXPECT_THROW(Trainer(config, linear, parts(log)), Error);
  TrainConfig negative = config;
  negative.microbatch = -1;
  EXPECT_THROW(Trainer(negative, schedule, parts(log)), Error);
  EXPECT_THROW((void)learning_rate_factor(linear, 5, 10), Error);
}

TEST(ScheduleTest, Shapes) {
  const ScheduleConfig cosine{.kind = "cosine", .warmup_steps = 4, .final_ratio = 0.1};
  EXPECT_DOUBLE_EQ(learning_rate_factor(cosine, 0, 20), 0.25);
  EXPECT_DOUBLE_EQ(learning_rate_factor(cosine, 3, 20), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(cosine, 4, 20), 1);
  EXPECT_NEAR(learning_rate_factor(cosine, 19, 20), 0.1, 1e-12);
  EXPECT_NEAR(learning_rate_factor({.kind = "cosine", .final_ratio = 0}, 5, 11), 0.5, 1e-12);
  const ScheduleConfig wsd{.kind = "wsd", .warmup_steps = 2, .decay_steps = 5, .final_ratio = 0};
  EXPECT_DOUBLE_EQ(learning_rate_factor(wsd, 14, 20), 1);
  EXPECT_DOUBLE_EQ(learning_rate_factor(wsd, 17, 20), 0.5);
  EXPECT_NEAR(learning_rate_factor(wsd, 19, 20), 0, 1e-12);
  EXPECT_DOUBLE_EQ(learning_rate_factor({.kind = "constant", .warmup_steps = 10}, 4, 20), 0.5);
}

}  // namespace
}  // namespace tutti
