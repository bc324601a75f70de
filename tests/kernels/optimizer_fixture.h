#pragma once

#include "tests/kernels/gradcheck.h"

#include <tutti/core/param_group.h>
#include <tutti/kernels/optimizer.h>

#include <cmath>
#include <map>
#include <memory>

// Models and references for the tests of optimizers.
namespace tutti::test {

/// Parameters of all roles with odd sizes; one is larger than a chunk of the update.
class Bag final : public Module {
 public:
  Bag() {
    const auto add = [this](const char* name, Shape shape, Role role, Init init = Init::normal(0.5)) {
      auto p = std::make_unique<Parameter>();
      p->shape = std::move(shape);
      p->role = role;
      p->init = init;
      register_parameter(name, *p);
      owned_.push_back(std::move(p));
    };
    add("table", {151, 133}, Role::kEmbedding);
    add("square", {31, 31}, Role::kWeight);
    add("tall", {57, 13}, Role::kWeight);
    add("filter", {7, 3, 3, 5}, Role::kWeight);
    add("bias", {57}, Role::kBias);
    add("norm", {1}, Role::kNorm, Init::constant(1));
    add("mean", {19}, Role::kStatistic, Init::constant(0));
    add("head", {11, 23}, Role::kHead);
    name_parameters();
  }

 protected:
  Var forward(Tape&, const Var& x) override { return x; }

 private:
  std::vector<std::unique_ptr<Parameter>> owned_;
};

struct Model {
  explicit Model(const GroupOptions& options, const Stream& on = test::stream())
      : stream(on), groups(make_param_groups(bag, options, on)) {}

  /// Draws the gradients of a step, which depend on name and step only: they are the same for every model.
  void draw_gradients(uint64_t seed, int64_t step) {
    for (Parameter* p : bag.parameters()) {
      Random random(seed ^ stable_hash(p->name) ^ (0x9E3779B9ULL * static_cast<uint64_t>(step + 1)));
      copy(p->grad, random.normal(p->shape, 0.3), stream);
      p->grad_defined = true;
    }
  }
  [[nodiscard]] Tensor value(const std::string& name) {
    for (Parameter* p : bag.parameters()) {
      if (p->name == name) return p->value;
    }
    fail("no parameter {}", name);
  }

  Bag bag;
  Stream stream;
  std::vector<std::unique_ptr<ParamGroup>> groups;
};

using Values = std::map<std::string, std::vector<double>>;

inline constexpr Precision kSingle{};
inline constexpr Precision kMixed{.compute = DType::kBFloat16};
inline constexpr Precision kDouble{DType::kFloat64, DType::kFloat64, DType::kFloat64};

/// One step of SGD and AdamW in fp64 with the papers' formulas.
struct Reference {
  const OptimizerConfig& config;
  Values x;
  Values first, second;

  void statistic(const Parameter& p, size_t i, double g) {
    x[p.name][i] = (1 - config.statistic_momentum) * x[p.name][i] + config.statistic_momentum * g;
  }
  void sgd(const Parameter& p, size_t i, double g, double rate) {
    const RoleRule& rule = config.rule(p.role);
    double& w = x[p.name][i];
    double& v = first[p.name][i];
    g += config.weight_decay * rule.weight_decay * w;
    v = config.momentum * v + g;
    w -= rate * rule.learning_rate * (config.nesterov ? g + config.momentum * v : v);
  }
  void adamw(const Parameter& p, size_t i, double g, double rate, int64_t step) {
    const RoleRule& rule = config.rule(p.role);
    rate *= rule.learning_rate;
    double& w = x[p.name][i];
    double& m = first[p.name][i];
    double& v = second[p.name][i];
    m = config.betas[0] * m + (1 - config.betas[0]) * g;
    v = config.betas[1] * v + (1 - config.betas[1]) * g * g;
    const double t = static_cast<double>(step + 1);
    const double mean = m / (1 - std::pow(config.betas[0], t));
    const double square = v / (1 - std::pow(config.betas[1], t));
    w -= rate * config.weight_decay * rule.weight_decay * w;
    w -= rate * mean / (std::sqrt(square) + config.eps);
  }
};

inline Reference reference_of(const OptimizerConfig& config, Model& setup) {
  Reference reference{config, {}, {}, {}};
  for (Parameter* p : setup.bag.parameters()) {
    reference.x[p->name] = to_doubles(p->value);
    reference.first[p->name].resize(static_cast<size_t>(p->numel()));
    reference.second[p->name].resize(static_cast<size_t>(p->numel()));
  }
  return reference;
}

/// The masters by name, gathered from models with one shard each.
inline Values masters(std::vector<Model*> parts) {
  Values all;
  for (Model* setup : parts) {
    for (const auto& group : setup->groups) {
      for (size_t i = 0; i < group->parameters().size(); ++i) {
        const Parameter& p = *group->parameters()[i];
        all[p.name].resize(static_cast<size_t>(p.numel()));
        const std::vector<double> master = to_doubles(group->master());
        for (int64_t e = 0; e < p.numel(); ++e) {
          const int64_t at = group->offset(i) + e - group->state_begin();
          if (at >= 0 && at < group->master().numel()) {
            all[p.name][static_cast<size_t>(e)] = master[static_cast<size_t>(at)];
          }
        }
      }
    }
  }
  return all;
}

inline void expect_values(const Values& actual, const Values& expected, double relative) {
  for (const auto& [name, values] : expected) {
    double worst = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      worst = std::max(worst, std::abs(actual.at(name)[i] - values[i]) / (std::abs(values[i]) + 0.1));
    }
    EXPECT_LE(worst, relative) << name;
  }
}

/// A fixture with settings that differ from the defaults, so that each has an effect on the result.
class OptimizerFixture : public RandomTest {
 protected:
  static constexpr int64_t kSteps = 12;

  OptimizerConfig config() {
    OptimizerConfig c;
    c.weight_decay = 0.07;
    c.head = {.learning_rate = 0.5, .weight_decay = 2};
    c.betas = {0.85, 0.97};
    c.eps = 1e-6;
    return c;
  }
  static double rate(int64_t step) { return 0.02 / static_cast<double>(1 + step); }
  static double grad_scale(int64_t step) { return step % 3 == 0 ? 1 : 0.7; }
};

}  // namespace tutti::test
