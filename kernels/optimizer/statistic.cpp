#include "kernels/optimizer/elementwise_rule.h"

namespace tutti {
namespace {

struct StatisticNumbers {
  static constexpr std::array<std::string_view, 0> kStates{};
  double momentum;

  template <class M>
  [[nodiscard]] row::Statistic<M> of(const UpdateStep& /*now*/, const RoleRule& /*role*/) const {
    return {.keep = static_cast<M>(1 - momentum), .momentum = static_cast<M>(momentum)};
  }
};

}  // namespace

std::unique_ptr<UpdateRule> make_statistic_rule(double momentum, std::vector<UpdateTarget> targets,
                                                const Stream& stream) {
  return std::make_unique<ElementwiseRule<row::Statistic, StatisticNumbers>>(StatisticNumbers{momentum},
                                                                             std::move(targets), stream);
}

}  // namespace tutti
