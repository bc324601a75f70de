#include "kernels/optimizer/elementwise_rule.h"

#include <cmath>

namespace tutti {
namespace {

struct AdamWNumbers {
  static constexpr std::array<std::string_view, 2> kStates{"exp_avg", "exp_avg_sq"};
  double beta1, beta2, eps, decay;

  template <class M>
  [[nodiscard]] row::AdamW<M> of(const UpdateStep& now, const RoleRule& role) const {
    const auto t = static_cast<double>(now.step + 1);
    const double correction1 = 1 - std::pow(beta1, t);
    const double correction2 = 1 - std::pow(beta2, t);
    const double rate = now.learning_rate * role.learning_rate;
    return {.keep = static_cast<M>(1 - rate * decay * role.weight_decay),
            .step_size = static_cast<M>(rate / correction1),
            .rest1 = static_cast<M>(1 - beta1),
            .beta2 = static_cast<M>(beta2),
            .rest2 = static_cast<M>(1 - beta2),
            .root_correction = static_cast<M>(1 / std::sqrt(correction2)),
            .eps = static_cast<M>(eps),
            .grad_scale = static_cast<M>(now.grad_scale)};
  }
};

}  // namespace

std::unique_ptr<UpdateRule> make_adamw_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                            const Stream& stream) {
  const AdamWNumbers numbers{
      .beta1 = config.betas[0], .beta2 = config.betas[1], .eps = config.eps, .decay = config.weight_decay};
  return std::make_unique<ElementwiseRule<row::AdamW, AdamWNumbers>>(numbers, std::move(targets), stream);
}

}  // namespace tutti
