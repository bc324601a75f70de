#pragma once

#include <tutti/core/param_group.h>
#include <tutti/core/train/trainer.h>

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

// A training with known results, for tests of the loop.
namespace tutti {

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

/// All shards on one rank, without communication.
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
  void register_hooks(Tape&, bool last) override { last_microbatches += last ? 1 : 0; }
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

/// Sample i of step s is the number s + i; every third step has fewer samples.
class Numbers : public BatchSource {
 public:
  Numbers(const Parallel& parallel, int64_t microbatch, const Stream& stream, int64_t first)
      : parallel_(parallel), microbatch_(microbatch), stream_(stream), step_(first) {}
  [[nodiscard]] int64_t samples(int64_t step) const override { return step % 3 == 2 ? 2 : 7; }
  [[nodiscard]] double predictions(int64_t step) const override { return double(samples(step)); }
  [[nodiscard]] double epoch(int64_t step) const override { return double(step) / 3; }
  [[nodiscard]] bool has_next() override { return wait(0); }
  bool wait(double) override { return !ready || ready(step_); }
  std::vector<Batch> next() override {
    if (before_next) before_next(step_);
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
  std::function<void(int64_t step)> before_next;  ///< may throw
  std::function<bool(int64_t step)> ready;        ///< empty: always

 private:
  const Parallel& parallel_;
  int64_t microbatch_;
  Stream stream_;
  int64_t step_;
};

class Log final : public Observer {
 public:
  void on_step(const StepReport& r) override {
    steps.push_back(r);
    events += fmt::format("step{} ", r.step);
  }
  void on_evaluation(const EvaluationReport& r) override {
    evaluations.push_back(r);
    events += fmt::format("evaluation{} ", r.step);
  }
  void before_checkpoint(int64_t step) override { events += fmt::format("before{} ", step); }
  void on_checkpoint(const CheckpointReport& r) override {
    checkpoints.push_back(r);
    events += fmt::format("{}{} ", r.error.empty() ? "saved" : "unsaved", r.step);
  }
  std::string events;  ///< in order
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

}  // namespace tutti
