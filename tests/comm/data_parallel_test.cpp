// One run, one answer: a small model trained by the real training loop on worlds of several sizes.
#include "tests/comm/ranks.h"

#include <tutti/comm/data_parallel.h>
#include <tutti/core/train/trainer.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <random>
#include <sstream>

namespace tutti::test {
namespace {

constexpr int64_t kInputs = 7;
constexpr int64_t kHidden = 37;  // more than one group of kBucketBytes, and odd
constexpr int64_t kOutputs = 3;
constexpr int64_t kBucketBytes = 2048;
constexpr uint64_t kSeed = 11;

/// y (B, O) = x (B, I) w (I, O), in the order of the loops.
Var affine(Tape& tape, const Var& x, const Var& w) {
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

Var tanh_of(Tape& tape, const Var& x) {
  const Tensor y = x.value.clone(tape.stream());
  for (float& v : y.span<float>()) v = std::tanh(v);
  return tape.record("tanh", y, {x}, [y, s = tape.stream()](const Tensor& dy, const Gradients& inputs) {
    const Tensor dx = dy.clone(s);
    for (int64_t i = 0; i < dx.numel(); ++i)
      dx.data<float>()[i] *= 1 - y.data<float>()[i] * y.data<float>()[i];
    inputs.add(0, dx);
  });
}

/// Tied weights (used twice), weights that are never used, and some that only the first microbatch uses.
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

Outcome train(Collective& world, const RunSettings& setup) {
  const Compute on;
  Regression task;
  task.net.name_parameters();
  GroupOptions options;
  options.precision.compute = setup.compute;
  options.placement.state = setup.state;
  options.shard = {world.rank(), world.size()};
  options.seed = kSeed;
  options.bucket_bytes = kBucketBytes;
  const auto groups = make_param_groups(task.net, options, on.stream);
  EXPECT_GE(groups.size(), 3U);
  DataParallel parallel(world, groups, setup.parallel, on.stream);
  Momentum optimizer(groups, on.stream);
  Samples samples(parallel, setup.microbatch, on.stream);
  Log log;
  TrainerParts parts{.task = task,
                     .parallel = parallel,
                     .optimizer = optimizer,
                     .training = samples,
                     .validation = {},
                     .save = {},
                     .observers = {&log},
                     .stop_requested = {},
                     .stream = on.stream,
                     .seed = kSeed};
  Trainer({.steps = 12, .batch = 13, .microbatch = setup.microbatch}, {.kind = "constant"}, parts).run();
  parallel.check_equal_weights();
  Outcome outcome{log.losses, log.norms, {}};
  for (const Parameter* p : task.net.parameters()) {
    const Tensor value = p->value.to(DType::kFloat32, on.stream);
    outcome.weights.insert(outcome.weights.end(), value.span<float>().begin(), value.span<float>().end());
  }
  return outcome;
}

Outcome train_alone(const RunSettings& setup) {
  return train(*make_self_collective(), setup);
}

void expect_equal(const Outcome& a, const Outcome& b) {
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(a.weights, b.weights);
}

void expect_near(const Outcome& a, const Outcome& b, double tolerance) {
  ASSERT_EQ(a.losses.size(), b.losses.size());
  ASSERT_EQ(a.weights.size(), b.weights.size());
  for (size_t i = 0; i < a.losses.size(); ++i) EXPECT_NEAR(a.losses[i], b.losses[i], tolerance) << i;
  for (size_t i = 0; i < a.weights.size(); ++i) EXPECT_NEAR(a.weights[i], b.weights[i], tolerance) << i;
}

TEST(DataParallel, OrderedModeHasOneAnswer) {
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

TEST(DataParallel, MoreShardsThanTwoARank) {
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
      // "rare" depends on how microbatches are cut, so that only a world of its own shape can be compared.
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

/// Counts the reductions that have ended; all groups made from it share the count.
class Counting final : public Collective {
 public:
  struct Count {
    std::mutex mutex;
    std::condition_variable changed;
    int value = 0;
    /// False if it has not reached `wanted` in a minute, which only a defect can cause.
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
    inner_->all_gather(output, input, on_.stream);
  }
  void on_all_to_all(const Tensor& output, const Tensor& input, const Executor&) override {
    inner_->all_to_all(output, input, on_.stream);
  }
  void on_broadcast(const Tensor& inout, int root, const Executor&) override {
    inner_->broadcast(inout, root, on_.stream);
  }
  void on_send(const Tensor& tensor, int to, const Executor&) override {
    inner_->send(tensor, to, on_.stream);
  }
  void on_recv(const Tensor& tensor, int from, const Executor&) override {
    inner_->recv(tensor, from, on_.stream);
  }
  void on_barrier(const Executor&) override { inner_->barrier(on_.stream); }
  std::unique_ptr<Collective> on_split(int color, int key) override {
    return std::make_unique<Counting>(inner_->split(color, key), count_);
  }

 private:
  std::unique_ptr<Collective> inner_;
  Count& count_;
  Compute on_;
};

TEST(DataParallel, GroupsAreReducedWhileBackwardRuns) {
  on_ranks([](Collective& world) {
    for (const char* mode : {"ordered", "fast"}) {
      const Compute on;
      Counting::Count count;
      Counting counting(world.split(0, world.rank()), count);
      Net net;
      net.name_parameters();
      // One group a parameter: first, unused, tied, rare, last.
      const auto groups = make_param_groups(net, {.seed = kSeed, .bucket_bytes = 1}, on.stream);
      DataParallel parallel(counting, groups, {.mode = mode}, on.stream);
      parallel.begin_step();
      const size_t shards = parallel.shards(100).size();
      for (size_t shard = 0; shard < shards; ++shard) {
        parallel.begin_shard(shard);
        Tape tape(on.stream);
        Var h = affine(tape, Var(Tensor::full({2, kInputs}, 1, DType::kFloat32, on.stream)),
                       tape.leaf(net.first));
        h = tape.on_backward(h, [&] {
          if (shard + 1 < shards) {
            EXPECT_EQ(count.value, 0) << "only the last shard sends";
          } else {
            // "last", "rare" and "tied" are complete; their reductions end while backward waits here.
            EXPECT_TRUE(count.reaches(3)) << mode;
          }
        });
        h = affine(tape, affine(tape, h, tape.leaf(net.tied)), tape.leaf(net.rare));
        h = affine(tape, h, tape.leaf(net.last));
        parallel.register_hooks(tape, true);
        tape.backward(h, Tensor::full(h.shape(), 1, DType::kFloat32, on.stream));
        parallel.end_shard(shard);
      }
      parallel.finish_step();
      EXPECT_EQ(count.value, 5) << "each group once";
      for (const float x : net.unused.grad.span<float>()) EXPECT_EQ(x, 0);
      const float every = net.last.grad.data<float>()[0];
      parallel.begin_step();  // and again: nothing is left of the step before
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
    const Compute on;
    Net net;
    net.name_parameters();
    const auto groups = make_param_groups(net, {.seed = kSeed, .bucket_bytes = kBucketBytes}, on.stream);
    if (world.rank() == 1) net.rare.value.data<float>()[100] += 1;
    try {
      DataParallel parallel(world, groups, {}, on.stream);
      FAIL() << "different weights must be refused";
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("rare"), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find("rank 1 differ"), std::string::npos) << error.what();
    }
  });
}

TEST(DataParallel, ImpossibleSettings) {
  on_ranks([](Collective& world) {
    const Compute on;
    const auto make = [&](const DataParallelConfig& config) {
      DataParallel parallel(world, {}, config, on.stream);
    };
    EXPECT_THROW(make({.mode = "quick"}), Error);
    EXPECT_THROW(make({.logical_shards = 12}), Error);
    EXPECT_THROW(make({.reduce_dtype = DType::kBFloat16}), Error);
    if (world.size() > 2) {
      EXPECT_THROW(make({.logical_shards = 2}), Error);
    }
  });
}

TEST(DataParallel, OrderedModeTakesHeuristicAlgorithmsAlone) {
  EXPECT_EQ(DataParallelConfig{.mode = "ordered"}.algorithm_selection(), AlgorithmSelection::kHeuristic);
  EXPECT_EQ(DataParallelConfig{.mode = "fast"}.algorithm_selection(), AlgorithmSelection::kAutotuned);
  EXPECT_EQ(DataParallelConfig{}.algorithm_selection(), AlgorithmSelection::kAutotuned)
      << "auto is fast on GPUs";
  if (test_device().type == DeviceType::kCpu) return;
  on_ranks([](Collective& world) {
    const Compute on;
    EXPECT_THROW(DataParallel(world, {}, {.mode = "ordered", .logical_shards = 8},
                              Stream::cuda(test_device().index, Stream::Priority::kNormal,
                                           AlgorithmSelection::kAutotuned)),
                 Error);
    world.barrier(on.stream);
  });
}

TEST(DataParallel, ShardsCoverTheBatch) {
  on_ranks([](Collective& world) {
    const Compute on;
    for (const char* mode : {"ordered", "fast"}) {
      DataParallel parallel(world, {}, {.mode = mode, .logical_shards = 8}, on.stream);
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
    const Compute on;
    DataParallel parallel(world, {}, {.logical_shards = 8}, on.stream);
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
