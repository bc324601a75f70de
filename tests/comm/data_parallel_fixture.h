#pragma once

#include "tests/comm/ranks.h"

#include <tutti/comm/data_parallel.h>
#include <tutti/core/train/trainer.h>

#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <vector>

// A small regression, its data and optimizer, trained by the real training loop on worlds of several sizes.
namespace tutti::test {

inline constexpr int64_t kInputs = 7;
inline constexpr int64_t kHidden = 37;  // more than one group of kBucketBytes, and odd
inline constexpr int64_t kOutputs = 3;
inline constexpr int64_t kBucketBytes = 2048;
inline constexpr uint64_t kSeed = 11;

/// y (B, O) = x (B, I) w (I, O), summed in the order of the loops.
inline Var affine(Tape& tape, const Var& x, const Var& w) {
  const Tensor xf = x.value.to(DType::kFloat32, tape.stream()).to_contiguous(tape.stream());
  const Tensor wf = w.value.to(DType::kFloat32, tape.stream());
  const int64_t rows = xf.size(0), in = wf.size(0), out = wf.size(1);
  const auto product = [&tape](int64_t m, int64_t n, int64_t k, auto a, auto b) {
    const Tensor y = Tensor::empty({m, n}, DType::kFloat32, tape.stream());
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        float sum = 0;
        for (int64_t l = 0; l < k; ++l) sum += a(i, l) * b(l, j);
        y.data<float>()[i * n + j] = sum;
      }
    }
    return y;
  };
  const auto X = [p = xf.data<float>(), in](int64_t i, int64_t j) { return p[i * in + j]; };
  const auto W = [p = wf.data<float>(), out](int64_t i, int64_t j) { return p[i * out + j]; };
  return tape.record(
      "affine", product(rows, out, in, X, W), {x, w}, [=](const Tensor& dy, const Gradients& inputs) {
        (void)xf, (void)wf;  // keep X and W alive
        const auto D = [p = dy.data<float>(), out](int64_t i, int64_t j) { return p[i * out + j]; };
        const auto turned = [](auto f) { return [f](int64_t i, int64_t j) { return f(j, i); }; };
        if (inputs.needs(0)) inputs.add(0, product(rows, in, out, D, turned(W)));
        if (inputs.needs(1)) inputs.add(1, product(in, out, rows, turned(X), D));
      });
}

inline Var tanh_of(Tape& tape, const Var& x) {
  const Tensor y = x.value.clone(tape.stream());
  for (float& v : y.span<float>()) v = std::tanh(v);
  return tape.record("tanh", y, {x}, [y, s = tape.stream()](const Tensor& dy, const Gradients& inputs) {
    const Tensor dx = dy.clone(s);
    for (int64_t i = 0; i < dx.numel(); ++i)
      dx.data<float>()[i] *= 1 - y.data<float>()[i] * y.data<float>()[i];
    inputs.add(0, dx);
  });
}

/// Tied weights (used twice), weights that are never used, and weights that only the first microbatch uses.
class Net final : public Module {
 public:
  Net()
      : first{.shape = {kInputs, kHidden}, .init = Init::normal(0.4)},
        unused{.shape = {5}, .init = Init::normal(1)},
        tied{.shape = {kHidden, kHidden}, .init = Init::normal(0.15)},
        rare{.shape = {kHidden, kHidden}, .init = Init::normal(0.15)},
        last{.shape = {kHidden, kOutputs}, .init = Init::normal(0.2)} {
    register_parameter("first", first);
    register_parameter("unused", unused);
    register_parameter("tied", tied);
    register_parameter("rare", rare);
    register_parameter("last", last);
  }
  Parameter first, unused, tied, rare, last;

 protected:
  Var forward(Tape& tape, const Var& x) override {
    Var h = tanh_of(tape, affine(tape, x, tape.leaf(first)));
    h = tanh_of(tape, affine(tape, h, tape.leaf(tied)));
    if (tape.context().first_sample == 0) h = tanh_of(tape, affine(tape, h, tape.leaf(rare)));
    h = tanh_of(tape, affine(tape, h, tape.leaf(tied)));
    return affine(tape, h, tape.leaf(last));
  }
};

class Regression final : public Task {
 public:
  Module& model() override { return net; }
  [[nodiscard]] double predictions(const Batch& batch) const override {
    return static_cast<double>(batch.samples());
  }
  Var loss(Tape& tape, const Batch& batch, double scale) override {
    const Var y = net(tape, Var(batch.inputs));
    const Tensor error = y.value.clone(tape.stream());
    float sum = 0;
    for (int64_t i = 0; i < error.numel(); ++i) {
      error.data<float>()[i] -= batch.targets.data<float>()[i];
      sum += error.data<float>()[i] * error.data<float>()[i] / 2;
      error.data<float>()[i] *= static_cast<float>(scale);
    }
    return tape.record("half_square", Tensor::full({}, sum * scale, DType::kFloat32, tape.stream()), {y},
                       [error](const Tensor&, const Gradients& inputs) { inputs.add(0, error); });
  }
  EvaluationSums evaluate(const Stream&, const Batch&) override { return {}; }
  [[nodiscard]] double flops_per_sample() const override { return 1; }
  Net net;
};

/// Numbers keyed by step and sample, of which each rank returns a part; every third step has fewer samples
/// than there are shards.
class Samples final : public BatchSource {
 public:
  Samples(const Parallel& parallel, int64_t microbatch, const Stream& stream)
      : parallel_(parallel), microbatch_(microbatch), stream_(stream) {}
  [[nodiscard]] int64_t samples(int64_t step) const override { return step % 3 == 2 ? 2 : 13; }
  [[nodiscard]] double predictions(int64_t step) const override { return static_cast<double>(samples(step)); }
  [[nodiscard]] double epoch(int64_t) const override { return 0; }
  std::vector<Batch> next() override {
    std::vector<Batch> all;
    for (const auto& row : microbatches(parallel_.shards(samples(step_)), microbatch_)) {
      for (const auto& range : row) {
        const Tensor x = numbers(range);
        const Tensor y = Tensor::empty({x.size(0), kOutputs}, DType::kFloat32, stream_);
        copy(y, x.slice(1, 0, kOutputs), stream_);
        all.push_back({x, y, range.begin});
      }
    }
    ++step_;
    return all;
  }

 private:
  [[nodiscard]] Tensor numbers(const Parallel::Shard& range) const {
    std::vector<float> v;
    for (int64_t i = range.begin; i < range.end; ++i) {
      const RandomKey key{kSeed, 1, static_cast<uint64_t>(step_), static_cast<uint64_t>(i)};
      for (int64_t k = 0; k < kInputs; ++k)
        v.push_back(2 * uniform(key.words(static_cast<uint64_t>(k))[0]) - 1);
    }
    return Tensor::from(v, {range.end - range.begin, kInputs}, stream_);
  }

  const Parallel& parallel_;
  int64_t microbatch_;
  Stream stream_;
  int64_t step_ = 0;
};

/// Momentum over the state that this rank keeps.
class Momentum final : public ParameterUpdate {
 public:
  Momentum(std::span<const std::unique_ptr<ParamGroup>> groups, const Stream& stream)
      : groups_(groups), stream_(stream) {
    for (const auto& g : groups) velocity_.push_back(g->master().clone(stream));
    for (const Tensor& v : velocity_) fill(v, 0, stream);
  }
  double grad_norm() override {
    double squares = 0;
    for (const auto& g : groups_) {
      for (const float x : g->grads().span<float>()) squares += double{x} * x;
    }
    return std::sqrt(squares);
  }
  [[nodiscard]] double clip_scale(double norm) const override { return norm > 0.5 ? 0.5 / norm : 1; }
  [[nodiscard]] double peak_learning_rate() const override { return 0.1; }
  void step(double rate, double scale, int64_t) override {
    for (size_t i = 0; i < groups_.size(); ++i) {
      ParamGroup& g = *groups_[i];
      const Tensor grads = g.grads().slice(0, g.state_begin(), g.state_end());
      for (int64_t k = 0; k < grads.numel(); ++k) {
        float& v = velocity_[i].data<float>()[k];
        v = 0.9F * v + static_cast<float>(scale) * grads.data<float>()[k];
        g.master().data<float>()[k] -= static_cast<float>(rate) * v;
      }
      g.round_weights(stream_);
    }
  }

 private:
  std::span<const std::unique_ptr<ParamGroup>> groups_;
  Stream stream_;
  std::vector<Tensor> velocity_;
};

struct Log final : Observer {
  void on_step(const StepReport& report) override {
    losses.push_back(report.loss);
    norms.push_back(report.grad_norm);
  }
  std::vector<double> losses, norms;
};

struct RunSettings {
  DataParallelConfig parallel;
  DType compute = DType::kFloat32;
  Sharding state = Sharding::kReplicated;
  int64_t microbatch = 0;
};

struct Outcome {
  std::vector<double> losses, norms;
  std::vector<float> weights;
};

inline Outcome train(Collective& world, const RunSettings& setup) {
  const RankStream compute;
  Regression task;
  task.net.name_parameters();
  GroupOptions options;
  options.precision.compute = setup.compute;
  options.placement.state = setup.state;
  options.shard = {world.rank(), world.size()};
  options.seed = kSeed;
  options.bucket_bytes = kBucketBytes;
  const auto groups = make_param_groups(task.net, options, compute.stream);
  EXPECT_GE(groups.size(), 3U);
  DataParallel parallel(world, groups, setup.parallel, compute.stream);
  Momentum optimizer(groups, compute.stream);
  Samples samples(parallel, setup.microbatch, compute.stream);
  Log log;
  TrainerParts parts{.task = task,
                     .parallel = parallel,
                     .optimizer = optimizer,
                     .training = samples,
                     .validation = {},
                     .save = {},
                     .observers = {&log},
                     .stop_requested = {},
                     .stream = compute.stream,
                     .seed = kSeed};
  Trainer({.steps = 12, .batch = 13, .microbatch = setup.microbatch}, {.kind = "constant"}, parts).run();
  parallel.check_equal_weights();
  Outcome outcome{log.losses, log.norms, {}};
  for (const Parameter* p : task.net.parameters()) {
    const Tensor value = p->value.to(DType::kFloat32, compute.stream);
    outcome.weights.insert(outcome.weights.end(), value.span<float>().begin(), value.span<float>().end());
  }
  return outcome;
}

inline Outcome train_alone(const RunSettings& setup) {
  return train(*make_self_collective(), setup);
}

inline void expect_equal(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(a.weights, b.weights);
}

inline void expect_near(const Outcome& a, const Outcome& b, double tolerance) {
  ASSERT_EQ(a.losses.size(), b.losses.size());
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (size_t i = 0; i < a.losses.size(); ++i) EXPECT_NEAR(a.losses[i], b.losses[i], tolerance) << i;
  for (size_t i = 0; i < a.weights.size(); ++i) EXPECT_NEAR(a.weights[i], b.weights[i], tolerance) << i;
}

}  // namespace tutti::test
