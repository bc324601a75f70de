#include "kernels/optimizer/elementwise_rule.h"

namespace tutti {
namespace {

struct SgdNumbers {
  static constexpr std::array<std::string_view, 1> kStates{"momentum"};
  double momentum, decay;
  bool nesterov;

  template <class M>
  [[nodiscard]] row::Sgd<M> of(const UpdateStep& now, const RoleRule& role) const {
    return {.learning_rate = static_cast<M>(now.learning_rate * role.learning_rate),
            .momentum = static_cast<M>(momentum),
            .decay = static_cast<M>(decay * role.weight_decay),
            .grad_scale = static_cast<M>(now.grad_scale),
            .nesterov = nesterov};
  }
};

}  // namespace

std::unique_ptr<UpdateRule> make_sgd_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                          const Stream& stream) {
  const SgdNumbers numbers{
      .momentum = config.momentum, .decay = config.weight_decay, .nesterov = config.nesterov};
  return std::make_unique<ElementwiseRule<row::Sgd, SgdNumbers>>(numbers, std::move(targets), stream);
}

}  // namespace tutti
