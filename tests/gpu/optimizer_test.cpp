#include "tests/gpu/on_both.h"

#include <tutti/core/module.h>
#include <tutti/kernels/optimizer.h>

namespace tutti::test {
namespace {

/// Parameters of odd sizes and of every role with a different rule.
class Bag final : public Module {
 public:
  Bag() {
    add("weight", {300, 77}, Role::kWeight);
    add("bias", {301}, Role::kBias);
    add("norm", {1}, Role::kNorm);
    add("embedding", {1000, 33}, Role::kEmbedding);
    add("running", {65}, Role::kStatistic);
    name_parameters();
  }
  std::vector<std::unique_ptr<Parameter>> all;

 protected:
  Var forward(Tape&, const Var& x) override { return x; }

 private:
  void add(const std::string& name, const Shape& shape, Role role) {
    all.push_back(std::make_unique<Parameter>());
    all.back()->shape = shape;
    all.back()->role = role;
    all.back()->init = {Init::Kind::kNormal, 0.5};
    register_parameter(name, *all.back());
  }
};

class GpuOptimizer : public GpuTest {
 protected:
  struct Run {
    Bag bag;
    std::vector<std::unique_ptr<ParamGroup>> groups;
    std::unique_ptr<Optimizer> optimizer;
  };
  static std::unique_ptr<Run> start(const OptimizerConfig& config, const Precision& precision,
                                    const Stream& on) {
    auto run = std::make_unique<Run>();
    GroupOptions options;
    options.precision = precision;
    options.bucket_bytes = 60000;  // more than one group
    run->groups = make_param_groups(run->bag, options, on);
    run->optimizer = std::make_unique<Optimizer>(config, run->groups, on);
    return run;
  }
};

TEST_F(GpuOptimizer, StepsMatchTheCpu) {
  for (const std::string algorithm : {"adamw", "sgd", "muon"}) {
    for (const Precision& precision : {Precision{DType::kFloat32, DType::kFloat32, DType::kFloat32},
                                       Precision{DType::kBFloat16, DType::kFloat32, DType::kFloat32},
                                       Precision{DType::kBFloat16, DType::kFloat32, DType::kBFloat16},
                                       Precision{DType::kFloat64, DType::kFloat64, DType::kFloat64}}) {
      SCOPED_TRACE(fmt::format("{} with weights in {}, gradients in {}", algorithm, name(precision.compute),
                               name(precision.grad)));
      OptimizerConfig config;
      config.algorithm = algorithm;
      config.learning_rate = 0.01;
      config.weight_decay = 0.1;
      const auto host = start(config, precision, stream());
      const auto device = start(config, precision, gpu());
      ASSERT_GT(host->groups.size(), 1U);
      for (int64_t step = 0; step < 4; ++step) {
        for (size_t g = 0; g < host->groups.size(); ++g) {
          const Tensor& grads = host->groups[g]->grads();
          copy(grads, random.normal(grads.shape()), stream());
          copy(device->groups[g]->grads(), grads, gpu());
        }
        const double norm = host->optimizer->grad_norm();
        EXPECT_NEAR(device->optimizer->grad_norm(), norm, 1e-9 * norm);
        host->optimizer->step(0.01, 0.5, step);
        device->optimizer->step(0.01, 0.5, step);
      }
      for (size_t g = 0; g < host->groups.size(); ++g) {
        // Muon's polynomial amplifies rounding errors of the smallest singular values.
        const double spread = algorithm == "muon" ? 50 : 1;
        const double master = spread * (precision.master == DType::kFloat64 ? 1e-12 : 2e-5);
        expect_close(device->groups[g]->master().to(DType::kFloat64, stream()),
                     host->groups[g]->master().to(DType::kFloat64, stream()), master, master);
        const double weight = precision.compute == DType::kBFloat16 ? 1e-2 : master;
        expect_close(device->groups[g]->weights().to(DType::kFloat64, stream()),
                     host->groups[g]->weights().to(DType::kFloat64, stream()), weight, weight);
      }
    }
  }
}

TEST_F(GpuOptimizer, NanGradientMakesTheNormNan) {
  const auto device = start({}, {}, gpu());
  for (const auto& group : device->groups) fill(group->grads(), 1, gpu());
  EXPECT_TRUE(std::isfinite(device->optimizer->grad_norm()));
  fill(device->groups.front()->grads().slice(0, 17, 18), std::numeric_limits<double>::quiet_NaN(), gpu());
  EXPECT_TRUE(std::isnan(device->optimizer->grad_norm()));
}

}  // namespace
}  // namespace tutti::test
