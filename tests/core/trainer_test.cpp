#include <tutti/core/param_group.h>
#include <tutti/core/train/trainer.h>

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tutti {
namespace {

/// One weight w and the loss sum of (w - x)^2 / 2 over the samples' numbers x, in fp64.
class MeanTask final : public Task {
 public:
  class Model final : public Module {
   public:
    Model() : weight{.shape = {1}, .init = Init::constant(5)} { register_parameter("weight", weight); }
    Parameter weight;

   protected:
    Var forward(Tape& tape, const Var&) override { return tape.leaf(weight); }
  };

  Module& model() override { return net; }
  [[nodiscard]] double predictions(const Batch& batch) const override { return double(batch.samples()); }
  Var loss(Tape& tape, const Batch& batch, double scale) override {
    const Var w = net(tape, Var(batch.inputs));
    double sum = 0;
    double slope = 0;
    for (const double x : batch.inputs.span<double>()) {
      sum += (w.value.item() - x) * (w.value.item() - x) / 2;
      slope += w.value.item() - x;
    }
    contexts.push_back(tape.context());
    const auto value = [&](double v) { return Tensor::full({1}, v, DType::kFloat64, tape.stream()); };
    return tape.record("half_square", value(scale * sum), {w},
                       [g = value(scale * slope)](const Tensor& dy, const Gradients& in) {
                         EXPECT_EQ(dy.item(), 1);
                         in.add(0, g);
                       });
  }
  EvaluationSums evaluate(const Stream&, const Batch& batch) override {
    EvaluationSums sums;
    for (const double x : batch.inputs.span<double>()) {
      sums.loss += std::abs(net.weight.value.item() - x);
      sums.count += 1;
      sums.correct += x > 1 ? 1 : 0;
    }
    return sums;
  }
  [[nodiscard]] double flops_per_sample() const override { return 1; }

  Model net;
  std::vector<StepContext> contexts;
};

/// All shards on one rank, gradients in place.
class OneRank final : public Parallel {
 public:
  explicit OneRank(int64_t shards, const Stream& stream, std::span<const std::unique_ptr<ParamGroup>> groups)
      : count_(shards), stream_(stream), groups_(groups) {}
  Peers& peers() override { return peers_; }
  [[nodiscard]] std::vector<Shard> shards(int64_t samples) const override {
    std::vector<Shard> all;
    for (int64_t i = 0; i < count_; ++i) all.push_back({i * samples / count_, (i + 1) * samples / count_});
    return all;
  }
  void begin_step() override {
    for (const auto& g : groups_) g->clear_grads();
  }
  void begin_shard(size_t) override {}
  void watch(Tape&, bool last) override { last_microbatches += last ? 1 : 0; }
  void end_shard(size_t) override {}
  double finish_step() override {
    for (const auto& g : groups_) g->zero_missing_grads(stream_);
    return 0;
  }
  std::vector<double> sum(std::span<const std::vector<double>> leaves) override {
    std::vector<double> total(leaves.front().size());
    for (const auto& leaf : leaves) {
      for (size_t i = 0; i < leaf.size(); ++i) total[i] += leaf[i];
    }
    return total;
  }
  int last_microbatches = 0;

 private:
  SinglePeer peers_;
  int64_t count_;
  Stream stream_;
  std::span<const std::unique_ptr<ParamGroup>> groups_;
};

class Descent final : public ParameterUpdate {
 public:
  explicit Descent(Parameter& p) : p_(p) {}
  double grad_norm() override { return std::abs(p_.grad.item()); }
  [[nodiscard]] double clip_scale(double norm) const override { return norm > 1 ? 1 / norm : 1; }
  [[nodiscard]] double peak_learning_rate() const override { return 0.5; }
  void step(double rate, double scale, int64_t) override {
    p_.value.data<double>()[0] -= rate * scale * p_.grad.item();
  }

 private:
  Parameter& p_;
};

/// Sample i of step s is the number s + i; every third step is ragged.
class Numbers final : public BatchSource {
 public:
  Numbers(const Parallel& parallel, int64_t microbatch, const Stream& stream, int64_t first)
      : parallel_(parallel), microbatch_(microbatch), stream_(stream), step_(first) {}
  [[nodiscard]] int64_t samples(int64_t step) const override { return step % 3 == 2 ? 2 : 7; }
  [[nodiscard]] double predictions(int64_t step) const override { return double(samples(step)); }
  [[nodiscard]] double epoch(int64_t step) const override { return double(step) / 3; }
  std::vector<Batch> next() override {
    std::vector<Batch> all;
    for (const auto& row : microbatches(parallel_.shards(samples(step_)), microbatch_)) {
      for (const auto& range : row) {
        std::vector<double> v;
        for (int64_t i = range.begin; i < range.end; ++i)
          v.push_back(poison_at == step_ ? NAN : 0.1 * double(step_ + i));
        all.push_back({Tensor::from(v, {range.end - range.begin}, stream_), {}, range.begin});
      }
    }
    ++step_;
    return all;
  }
  int64_t poison_at = -1;

 private:
  const Parallel& parallel_;
  int64_t microbatch_;
  Stream stream_;
  int64_t step_;
};

class Log final : public Observer {
 public:
  void on_step(const StepReport& r) override { steps.push_back(r); }
  void on_evaluation(const EvaluationReport& r) override { evaluations.push_back(r); }
  void on_checkpoint(const CheckpointReport& r) override { checkpoints.push_back(r); }
  std::vector<StepReport> steps;
  std::vector<EvaluationReport> evaluations;
  std::vector<CheckpointReport> checkpoints;
};

class TrainerTest : public testing::Test {
 protected:
  struct Run {
    TrainResult result;
    double weight = 0;
    Log log;
  };
  TrainerTest() { task.net.name_parameters(); }

  TrainerParts parts(Log& log) {
    groups = make_param_groups(task.net, {.precision = {DType::kFloat64, DType::kFloat64, DType::kFloat64}},
                               stream);
    parallel = std::make_unique<OneRank>(shards, stream, groups);
    numbers = std::make_unique<Numbers>(*parallel, config.microbatch, stream, 0);
    descent = std::make_unique<Descent>(task.net.weight);
    return {.task = task,
            .parallel = *parallel,
            .optimizer = *descent,
            .training = *numbers,
            .observers = {&log},
            .stream = stream,
            .seed = 9};
  }

  ThreadPool pool{1};
  Stream stream = Stream::inline_on(pool);
  MeanTask task;
  std::vector<std::unique_ptr<ParamGroup>> groups;
  std::unique_ptr<OneRank> parallel;
  std::unique_ptr<Numbers> numbers;
  std::unique_ptr<Descent> descent;
  TrainConfig config{.steps = 5, .batch = 7};
  ScheduleConfig schedule{.kind = "constant"};
  int64_t shards = 1;
};

TEST_F(TrainerTest, MatchesTheFormulaAtAnyCut) {
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

TEST_F(TrainerTest, ContextNamesSamplesAndShares) {
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

TEST_F(TrainerTest, NotFiniteStepsAreSkippedThenEndTheRun) {
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
  again.save = [&](int64_t step) {
    ++saves;
    return CheckpointReport{.step = step};
  };
  EXPECT_EQ(Trainer(config, schedule, again).run().reason, TrainResult::Reason::kNotFinite);
  EXPECT_EQ(second.steps.size(), 2U);
  EXPECT_EQ(saves, 0);

  // Weights that have gone wrong do not push out older checkpoints.
  Log third;
  TrainerParts wild = parts(third);
  std::vector<int64_t> saved;
  wild.save_every = 1;
  wild.save = [&](int64_t step) {
    saved.push_back(step);
    return CheckpointReport{.step = step};
  };
  numbers->poison_at = 2;
  config.max_skipped_steps = 3;
  EXPECT_EQ(Trainer(config, schedule, wild).run().reason, TrainResult::Reason::kCompleted);
  EXPECT_EQ(saved, (std::vector<int64_t>{1, 2, 4, 5}));
}

TEST_F(TrainerTest, SavesEvaluatesAndStops) {
  Log log;
  TrainerParts p = parts(log);
  p.save = [](int64_t step) { return CheckpointReport{.step = step}; };
  p.save_every = 2;
  p.validation = [&] { return std::make_unique<Numbers>(*parallel, config.microbatch, stream, 0); };
  p.validation_steps = 3;
  config.evaluate_every = 3;
  const TrainResult result = Trainer(config, schedule, p).run();
  ASSERT_EQ(log.checkpoints.size(), 3U);
  EXPECT_EQ(log.checkpoints[2].step, 5);
  ASSERT_EQ(log.evaluations.size(), 2U);
  EXPECT_EQ(log.evaluations[0].step, 3);
  EXPECT_TRUE(result.evaluated);
  const double w = task.net.weight.value.item();
  double expected = 0;
  for (int step = 0; step < 3; ++step) {
    for (int i = 0; i < (step == 2 ? 2 : 7); ++i) expected += std::abs(w - 0.1 * (step + i)) / 16;
  }
  EXPECT_NEAR(log.evaluations[1].loss, expected, 1e-12);

  Log stopped;
  TrainerParts again = parts(stopped);
  again.save = [](int64_t step) { return CheckpointReport{.step = step}; };
  again.stop_requested = [&] { return stopped.steps.size() == 1; };
  EXPECT_EQ(Trainer(config, schedule, again).run().reason, TrainResult::Reason::kStopped);
  EXPECT_EQ(stopped.steps.size(), 2U);
  EXPECT_EQ(stopped.checkpoints.size(), 1U);
}

TEST_F(TrainerTest, FailedSavesEndTheRunOnlyInARow) {
  Log log;
  TrainerParts p = parts(log);
  p.save_every = 1;
  p.save = [](int64_t step) {
    return CheckpointReport{
        .step = step, .path = "x", .wall_s = 0, .error = step == 2 ? "" : "No space left"};
  };
  EXPECT_THROW(Trainer(config, schedule, p).run(), Error);
  EXPECT_EQ(log.checkpoints.size(), 5U);
}

TEST_F(TrainerTest, ARunDoesNotEndWellWithoutItsLastCheckpoint) {
  const auto fails = [](int64_t step) { return CheckpointReport{.step = step, .error = "No space left"}; };
  Log log;
  TrainerParts p = parts(log);
  p.save = fails;
  EXPECT_THROW(Trainer(config, schedule, p).run(), AgreedError);
  EXPECT_EQ(log.steps.size(), static_cast<size_t>(config.steps));
  Log stopped;
  TrainerParts asked = parts(stopped);
  asked.save = fails;
  asked.stop_requested = [&] { return stopped.steps.size() == 1; };
  EXPECT_THROW(Trainer(config, schedule, asked).run(), AgreedError);
  EXPECT_EQ(stopped.steps.size(), 2U);
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
