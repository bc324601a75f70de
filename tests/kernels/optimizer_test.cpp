#include "tests/kernels/optimizer_fixture.h"

#include <tutti/core/config/run_file.h>

#include <algorithm>

namespace tutti::test {
namespace {

class OptimizerTest : public OptimizerFixture {
 protected:
  void compare_with_reference(const OptimizerConfig& c, const Precision& precision, double relative) {
    SCOPED_TRACE(fmt::format("{} in {}", c.algorithm, name(precision.compute)));
    GroupOptions options{.precision = precision, .seed = random.seed(), .bucket_bytes = 3000};
    Model setup(options);
    Optimizer optimizer(c, setup.groups, setup.stream);
    Model exact({.precision = kDouble, .seed = random.seed()});
    Reference reference = reference_of(c, exact);
    for (int64_t step = 0; step < kSteps; ++step) {
      setup.draw_gradients(random.seed(), step);
      for (Parameter* p : setup.bag.parameters()) {
        const std::vector<double> g = to_doubles(p->grad);
        for (size_t i = 0; i < g.size(); ++i) {
          const double scaled = g[i] * grad_scale(step);
          if (p->role == Role::kStatistic)
            reference.statistic(*p, i, g[i]);
          else if (c.algorithm == "sgd")
            reference.sgd(*p, i, scaled, rate(step));
          else
            reference.adamw(*p, i, scaled, rate(step), step);
        }
      }
      optimizer.step(rate(step), grad_scale(step), step);
    }
    expect_values(masters({&setup}), reference.x, relative);
    for (const auto& group : setup.groups) {
      const Tensor rounded = group->master().to(precision.compute, setup.stream);
      expect_same_bits(group->weights(), rounded, "weights as rounded masters");
    }
  }

  /// The masters after four steps with `threads` threads.
  Values run(const OptimizerConfig& c, const GroupOptions& options, int threads) {
    ThreadPool pool(threads);
    const Stream stream = Stream::inline_on(pool);
    Model setup(options, stream);
    Optimizer optimizer(c, setup.groups, stream);
    for (int64_t step = 0; step < 4; ++step) {
      setup.draw_gradients(random.seed(), step);
      optimizer.step(rate(step), grad_scale(step), step);
    }
    return masters({&setup});
  }
};

TEST_F(OptimizerTest, SgdFollowsTheFormula) {
  OptimizerConfig c = config();
  c.algorithm = "sgd";
  for (const bool nesterov : {false, true}) {
    c.nesterov = nesterov;
    c.momentum = nesterov ? 0.8 : 0;
    compare_with_reference(c, kSingle, 1e-5);
    compare_with_reference(c, kMixed, 1e-5);
    compare_with_reference(c, kDouble, 1e-13);
  }
}

TEST_F(OptimizerTest, AdamWFollowsTheFormula) {
  compare_with_reference(config(), kSingle, 2e-5);
  compare_with_reference(config(), kMixed, 2e-5);
  compare_with_reference(config(), {.compute = DType::kBFloat16, .grad = DType::kBFloat16}, 2e-5);
  compare_with_reference(config(), kDouble, 1e-12);
}

/// After the first step the averages are (1 - momentum) g and (1 - momentum) g^2, with the precision of fp32.
TEST_F(OptimizerTest, AveragesNearOneKeepTheirPrecision) {
  for (const char* algorithm : {"adamw", "muon"}) {
    OptimizerConfig c;
    c.algorithm = algorithm;
    c.betas = {0.999, 0.99999};
    c.muon.momentum = 0.9999;
    c.statistic_momentum = 1e-6;
    Model setup({.seed = random.seed()});
    Optimizer optimizer(c, setup.groups, setup.stream);
    setup.draw_gradients(random.seed(), 0);
    optimizer.step(0, 1, 0);
    int64_t compared = 0;
    for (const StateTensor& state : optimizer.states()) {
      const auto dot = state.name.rfind('.');
      const std::string kind = state.name.substr(dot + 1);
      const std::vector<double> values = to_doubles(state.data);
      for (Parameter* p : setup.bag.parameters()) {
        if (p->name != state.name.substr(0, dot)) continue;
        const std::vector<double> g = to_doubles(p->grad);
        for (size_t i = 0; i < g.size(); ++i) {
          const double expected = kind == "exp_avg_sq" ? (1 - c.betas[1]) * g[i] * g[i]
                                  : kind == "exp_avg"  ? (1 - c.betas[0]) * g[i]
                                                       : (1 - c.muon.momentum) * g[i];
          ASSERT_LE(std::abs(values[i] - expected), 3e-7 * std::abs(expected)) << state.name;
          ++compared;
        }
      }
    }
    EXPECT_GT(compared, 0) << algorithm;
  }
}

TEST_F(OptimizerTest, StructsAreCheckedLikeRunFiles) {
  const auto error_of = [&](const OptimizerConfig& c) -> std::string {
    Model setup({.seed = random.seed()});
    try {
      const Optimizer optimizer(c, setup.groups, setup.stream);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  OptimizerConfig c;
  c.algorithm = "adam";
  EXPECT_EQ(error_of(c),
            "optimizer.algorithm: expected one of adamw, sgd, muon, got 'adam'; did you mean 'adamw'?");
  c.algorithm = "SGD";
  EXPECT_EQ(error_of(c),
            "optimizer.algorithm: expected one of adamw, sgd, muon, got 'SGD'; did you mean 'sgd'?");
  c = {};
  c.betas = {0.9, 1.5};
  EXPECT_NE(error_of(c), "");
  c = {};
  c.learning_rate = -1;
  EXPECT_EQ(error_of(c), "optimizer.learning_rate: expected a number, at least 0, got -1");
  c.learning_rate = std::nan("");
  EXPECT_NE(error_of(c), "");
  c = {};
  c.muon.scale = "wide";
  EXPECT_NE(error_of(c), "");
  EXPECT_EQ(error_of({}), "");
}

TEST_F(OptimizerTest, DefaultsDoNotDecayNormsAndBiases) {
  OptimizerConfig c;
  c.weight_decay = 0.5;
  Model setup({.seed = random.seed()});
  Optimizer optimizer(c, setup.groups, setup.stream);
  const Values before = masters({&setup});
  for (const auto& group : setup.groups) fill(group->grads(), 0, setup.stream);
  optimizer.step(0.1, 1, 0);
  const Values after = masters({&setup});
  EXPECT_EQ(after.at("norm"), before.at("norm"));
  EXPECT_EQ(after.at("bias"), before.at("bias"));
  for (const char* decayed : {"table", "square", "filter", "head"}) {
    EXPECT_NEAR(after.at(decayed)[0], before.at(decayed)[0] * 0.95, 1e-6) << decayed;
  }
}

TEST_F(OptimizerTest, ResultsAreTheSameBitsForAnyNumberOfThreads) {
  for (const char* algorithm : {"sgd", "adamw", "muon"}) {
    OptimizerConfig c = config();
    c.algorithm = algorithm;
    const GroupOptions options{.precision = kMixed, .seed = random.seed()};
    EXPECT_EQ(run(c, options, 1), run(c, options, 3)) << algorithm;
  }
}

TEST_F(OptimizerTest, ShardedStateGivesTheSameBits) {
  for (const char* algorithm : {"sgd", "adamw"}) {
    for (const Precision& precision : {kSingle, kMixed}) {
      OptimizerConfig c = config();
      c.algorithm = algorithm;
      GroupOptions options{.precision = precision, .seed = random.seed()};
      const Values whole = run(c, options, 2);
      options.placement.state = Sharding::kSharded;
      std::vector<std::unique_ptr<Model>> parts;
      std::vector<Model*> pointers;
      for (int rank = 0; rank < 3; ++rank) {
        options.shard = {rank, 3};
        parts.push_back(std::make_unique<Model>(options));
        pointers.push_back(parts.back().get());
        Optimizer optimizer(c, parts.back()->groups, stream());
        for (int64_t step = 0; step < 4; ++step) {
          parts.back()->draw_gradients(random.seed(), step);
          optimizer.step(rate(step), grad_scale(step), step);
        }
      }
      EXPECT_EQ(masters(pointers), whole) << algorithm << " " << name(precision.compute);
    }
  }
}

TEST_F(OptimizerTest, NormExcludesStatisticsAndDoesNotDependOnBuckets) {
  double first = 0;
  for (const int64_t bucket_bytes : {int64_t{1}, int64_t{5000}, int64_t{1} << 30}) {
    Model setup({.seed = 1, .bucket_bytes = bucket_bytes});
    Optimizer optimizer(config(), setup.groups, setup.stream);
    setup.draw_gradients(random.seed(), 0);
    double squares = 0;
    for (Parameter* p : setup.bag.parameters()) {
      if (p->role == Role::kStatistic) continue;
      for (const double g : to_doubles(p->grad)) squares += g * g;
    }
    const double norm = optimizer.grad_norm();
    EXPECT_NEAR(norm, std::sqrt(squares), 1e-9 * std::sqrt(squares));
    if (first == 0) first = norm;
    EXPECT_EQ(norm, first);
  }
}

TEST_F(OptimizerTest, ClippingLimitsTheNorm) {
  Model setup({.seed = 1});
  OptimizerConfig c = config();
  c.clip_norm = 2;
  const Optimizer clipping(c, setup.groups, setup.stream);
  EXPECT_DOUBLE_EQ(clipping.clip_scale(8), 0.25);
  EXPECT_DOUBLE_EQ(clipping.clip_scale(1.5), 1);
  c.clip_norm = 0;
  const Optimizer free(c, setup.groups, setup.stream);
  EXPECT_DOUBLE_EQ(free.clip_scale(8), 1);
}

TEST_F(OptimizerTest, RestoredStateContinuesWithTheSameBits) {
  for (const char* algorithm : {"sgd", "adamw", "muon"}) {
    SCOPED_TRACE(algorithm);
    OptimizerConfig c = config();
    c.algorithm = algorithm;
    Model first({.precision = kMixed, .seed = 5});
    Optimizer trained(c, first.groups, first.stream);
    for (int64_t step = 0; step < 3; ++step) {
      first.draw_gradients(random.seed(), step);
      trained.step(rate(step), 1, step);
    }
    Model second({.precision = kMixed, .seed = 6});
    Optimizer resumed(c, second.groups, second.stream);
    const std::vector<StateTensor> from = trained.states();
    const std::vector<StateTensor> to = resumed.states();
    ASSERT_EQ(from.size(), to.size());
    std::map<std::string, int> names;
    for (size_t i = 0; i < from.size(); ++i) {
      EXPECT_EQ(from[i].name, to[i].name);
      EXPECT_EQ(names[from[i].name]++, 0) << from[i].name;
      copy(to[i].data, from[i].data, second.stream);
    }
    for (const auto& group : second.groups) group->round_weights(second.stream);
    for (Model* setup : {&first, &second}) setup->draw_gradients(random.seed(), 3);
    trained.step(rate(3), 1, 3);
    resumed.step(rate(3), 1, 3);
    EXPECT_EQ(masters({&second}), masters({&first}));
    for (size_t g = 0; g < first.groups.size(); ++g) {
      expect_same_bits(second.groups[g]->weights(), first.groups[g]->weights());
    }
  }
}

TEST_F(OptimizerTest, StatesOfShardsCoverEachParameterOnce) {
  std::map<std::string, std::vector<int>> covered;
  for (int rank = 0; rank < 3; ++rank) {
    Model setup(
        {.placement = {.state = Sharding::kSharded}, .shard = {rank, 3}, .seed = 1, .bucket_bytes = 4000});
    const Optimizer optimizer(config(), setup.groups, setup.stream);
    for (const StateTensor& state : optimizer.states()) {
      EXPECT_EQ(state.sharding, Sharding::kSharded);
      std::vector<int>& counts = covered[state.name];
      counts.resize(static_cast<size_t>(numel(state.shape)));
      for (int64_t i = state.begin; i < state.end(); ++i) ++counts.at(static_cast<size_t>(i));
    }
  }
  EXPECT_EQ(covered.size(), 7 * 2 + 8U);  // averages of all but the statistic, masters of all
  for (const auto& [name, counts] : covered) {
    EXPECT_EQ(std::count(counts.begin(), counts.end(), 1), static_cast<int64_t>(counts.size())) << name;
  }
}

TEST_F(OptimizerTest, UnsupportedDtypesAreRefused) {
  Model setup({.precision = {.compute = DType::kFloat16}, .seed = 1});
  EXPECT_THROW(Optimizer(config(), setup.groups, setup.stream), Error);
  Model pure({.precision = {DType::kBFloat16, DType::kBFloat16, DType::kFloat32}, .seed = 1});
  EXPECT_THROW(Optimizer(config(), pure.groups, pure.stream), Error);
}

TEST_F(OptimizerTest, ConfigRoundTripsAndRefusesWrongValues) {
  OptimizerConfig c = config();
  c.algorithm = "muon";
  c.bias.learning_rate = 2;
  OptimizerConfig again;
  read_text(to_yaml(c), "run.yaml", again);
  EXPECT_EQ(to_yaml(again), to_yaml(c));
  for (const char* bad :
       {"betas: [0.9]", "algorithm: adam", "weight: {learning_rte: 1}", "eps: 0", "betas: [0.9, 1]"}) {
    EXPECT_THROW(read_text(bad, "run.yaml", again), Error) << bad;
  }
}

}  // namespace
}  // namespace tutti::test
