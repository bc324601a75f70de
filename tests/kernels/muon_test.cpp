#include "tests/kernels/optimizer_fixture.h"

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace tutti::test {
namespace {

/// Three matrices, 57 x 311 together: packed into one parameter, or in three parameters.
class Packed final : public Module {
 public:
  explicit Packed(bool apart) {
    if (apart) {
      for (const int64_t rows : kRows) add(fmt::format("part{}", owned_.size()), rows);
    } else {
      add("whole", 57).packed.assign(kRows.begin(), kRows.end());
    }
    name_parameters();
  }
  static constexpr std::array<int64_t, 3> kRows{31, 13, 13};
  static constexpr int64_t kColumns = 311;

 protected:
  Var forward(Tape&, const Var& x) override { return x; }

 private:
  Parameter& add(const std::string& name, int64_t rows) {
    owned_.push_back(std::make_unique<Parameter>());
    owned_.back()->shape = {rows, kColumns};
    owned_.back()->init = Init::constant(0.25);
    register_parameter(name, *owned_.back());
    return *owned_.back();
  }
  std::vector<std::unique_ptr<Parameter>> owned_;
};

class MuonTest : public OptimizerFixture {};

TEST_F(MuonTest, SplitsPackedMatrices) {
  const std::vector<double> drawn = to_doubles(random.normal({2, 57, Packed::kColumns}, 0.3));
  // All weights after two steps, concatenated.
  const auto stepped = [&](bool apart, bool split, const Precision& precision) {
    OptimizerConfig c;
    c.algorithm = "muon";
    c.muon.split_packed = split;
    Packed model(apart);
    const auto groups = make_param_groups(model, {.precision = precision}, stream());
    Optimizer optimizer(c, groups, stream());
    auto next = drawn.begin();
    for (int64_t step = 0; step < 2; ++step) {
      for (Parameter* p : model.parameters()) {
        const std::vector<double> values(next, next + p->numel());
        copy(p->grad, Tensor::from(values, p->shape, stream()), stream());
        p->grad_defined = true;
        next += p->numel();
      }
      optimizer.step(0.02, 0.7, step);
    }
    std::vector<double> all;
    for (Parameter* p : model.parameters()) {
      const std::vector<double> values = to_doubles(p->value);
      all.insert(all.end(), values.begin(), values.end());
    }
    return all;
  };
  for (const Precision& precision : {Precision{}, Precision{.compute = DType::kBFloat16},
                                     Precision{DType::kFloat64, DType::kFloat64, DType::kFloat64}}) {
    const std::vector<double> apart = stepped(true, false, precision);
    EXPECT_EQ(stepped(false, true, precision), apart);
    EXPECT_NE(stepped(false, false, precision), apart) << "one matrix";
  }
  Packed wrong(false);
  wrong.parameters()[0]->packed = {31, 13};
  const auto groups = make_param_groups(wrong, {}, stream());
  OptimizerConfig c;
  c.algorithm = "muon";
  c.muon.split_packed = true;
  EXPECT_THROW(Optimizer(c, groups, stream()), Error);
}

/// The Newton-Schulz iteration of the paper, by its definition in fp64.
std::vector<double> orthogonalised(const std::vector<double>& g, int64_t rows, int64_t columns,
                                   int64_t iterations) {
  const auto product = [](const std::vector<double>& a, const std::vector<double>& b, int64_t m, int64_t k,
                          int64_t n) {
    std::vector<double> c(static_cast<size_t>(m * n));
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        for (int64_t l = 0; l < k; ++l)
          c[static_cast<size_t>(i * n + j)] +=
              a[static_cast<size_t>(i * k + l)] * b[static_cast<size_t>(l * n + j)];
      }
    }
    return c;
  };
  double norm = 0;
  for (const double v : g) norm += v * v;
  std::vector<double> x = g;
  for (double& v : x) v /= std::sqrt(norm) + 1e-7;
  for (int64_t it = 0; it < iterations; ++it) {
    std::vector<double> t(x.size());
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j)
        t[static_cast<size_t>(j * rows + i)] = x[static_cast<size_t>(i * columns + j)];
    }
    const auto gram = product(x, t, rows, columns, rows);
    const auto cubic = product(gram, x, rows, rows, columns);
    const auto quintic = product(gram, cubic, rows, rows, columns);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 3.4445 * x[i] - 4.7750 * cubic[i] + 2.0315 * quintic[i];
  }
  return x;
}

TEST_F(MuonTest, OrthogonalisesMatricesAndUpdatesOthersByAdamW) {
  for (const auto& [scale_name, nesterov] : {std::pair{"match_adamw", true}, std::pair{"spectral", false}}) {
    OptimizerConfig c = config();
    c.algorithm = "muon";
    c.muon.scale = scale_name;
    c.muon.nesterov = nesterov;
    Model setup({.precision = kDouble, .seed = random.seed()});
    Model single({.precision = kMixed, .seed = random.seed()});
    Optimizer optimizer(c, setup.groups, setup.stream);
    Optimizer mixed(c, single.groups, single.stream);
    Reference reference = reference_of(c, setup);
    for (int64_t step = 0; step < 10; ++step) {
      setup.draw_gradients(random.seed(), step);
      single.draw_gradients(random.seed(), step);
      for (Parameter* p : setup.bag.parameters()) {
        std::vector<double> g = to_doubles(p->grad);
        const bool matrix = p->role == Role::kWeight;
        for (size_t i = 0; i < g.size(); ++i) {
          if (p->role == Role::kStatistic)
            reference.statistic(*p, i, g[i]);
          else if (!matrix)
            reference.adamw(*p, i, g[i], rate(step), step);
        }
        if (!matrix) continue;
        std::vector<double>& average = reference.first[p->name];
        for (size_t i = 0; i < g.size(); ++i) {
          average[i] = c.muon.momentum * average[i] + (1 - c.muon.momentum) * g[i];
          g[i] = nesterov ? (1 - c.muon.momentum) * g[i] + c.muon.momentum * average[i] : average[i];
        }
        const int64_t rows = p->shape[0];
        const int64_t columns = p->numel() / rows;
        const auto o = orthogonalised(g, rows, columns, c.muon.iterations);
        const auto ratio = static_cast<double>(rows) / static_cast<double>(columns);
        const double scale = std::string(scale_name) == "spectral"
                                 ? std::sqrt(std::max(1.0, ratio))
                                 : 0.2 * std::sqrt(static_cast<double>(std::max(rows, columns)));
        for (size_t i = 0; i < o.size(); ++i) {
          double& w = reference.x[p->name][i];
          w -= rate(step) * (c.weight_decay * w + scale * o[i]);
        }
      }
      optimizer.step(rate(step), 1, step);
      mixed.step(rate(step), 1, step);
    }
    expect_values(masters({&setup}), reference.x, 1e-11);
    expect_values(masters({&single}), reference.x, 1e-4);
  }
}

TEST_F(MuonTest, RefusesShardedMatrices) {
  OptimizerConfig c = config();
  c.algorithm = "muon";
  Model setup({.placement = {.state = Sharding::kSharded}, .shard = {1, 3}, .seed = 1});
  try {
    const Optimizer optimizer(c, setup.groups, setup.stream);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("muon needs whole matrices"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace tutti::test
