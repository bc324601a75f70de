#pragma once

#include <tutti/core/checkpoint/training_state.h>
#include <tutti/core/param_group.h>
#include <tutti/kernels/optimizer.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The part of a parameter that this rank updates.
struct UpdateTarget {
  ParamGroup* group = nullptr;
  Parameter* parameter = nullptr;
  int64_t flat = 0;   ///< offset of the parameter in the group's flat tensors
  int64_t begin = 0;  ///< elements [begin, end) of the parameter
  int64_t end = 0;
  RoleRule rule;

  [[nodiscard]] int64_t size() const { return end - begin; }
  [[nodiscard]] bool whole() const { return begin == 0 && end == parameter->numel(); }
  /// Dtype of state and arithmetic: that of the master.
  [[nodiscard]] DType state_dtype() const { return group->precision().master; }
  /// A flat tensor as this target's part of a checkpoint.
  [[nodiscard]] StateTensor checkpoint_part(std::string_view kind, const Tensor& part) const;
};

/// The values of one step.
struct UpdateStep {
  double learning_rate = 0;
  double grad_scale = 1;
  int64_t step = 0;
};

/// One algorithm, with the parameters that it updates and their state.
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;
  virtual void step(const UpdateStep& now, const Stream& stream) = 0;

  /// Whether prepare() and step_prepared() are supported, for steps that a device replays.
  [[nodiscard]] virtual bool can_prepare() const { return false; }
  /// Copies the numbers of the next step to the device, in stream order. Does not use now.grad_scale.
  virtual void prepare(const UpdateStep& now, const Stream& stream);
  /// The step with those numbers. `control` (cuda::clip_control) has the factor on gradients and whether to
  /// update.
  virtual void step_prepared(const Tensor& control, const Stream& stream);
  /// Appends the state for a checkpoint.
  virtual void add_states(std::vector<StateTensor>& states) const = 0;
};

std::unique_ptr<UpdateRule> make_sgd_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                          const Stream& stream);
std::unique_ptr<UpdateRule> make_adamw_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                            const Stream& stream);
std::unique_ptr<UpdateRule> make_muon_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                           const Stream& stream);
/// x <- (1 - momentum) x + momentum grad.
std::unique_ptr<UpdateRule> make_statistic_rule(double momentum, std::vector<UpdateTarget> targets,
                                                const Stream& stream);

/// A flat tensor of zeros for each target's part, in the target's state dtype.
std::vector<Tensor> new_states(std::span<const UpdateTarget> targets, const Stream& stream);

/// Elements [begin, end) of a parameter: the unit of parallel work. Chunks begin at fixed multiples from the
/// parameter's first element, for any sharding.
struct UpdateChunk {
  size_t target = 0;
  int64_t begin = 0;
  int64_t end = 0;
};
std::vector<UpdateChunk> cut_into_chunks(std::span<const UpdateTarget> targets);
/// The same for elements [begin, end) of one target, cut at multiples from `begin`.
std::vector<UpdateChunk> cut_into_chunks(size_t target, int64_t begin, int64_t end);

/// The memory of one chunk. `weight` is null if the master is the weight.
template <class G, class M, class W>
struct UpdateSpan {
  int64_t n;
  const G* __restrict grad;
  M* __restrict master;
  W* __restrict weight;
};

/// Calls `f(UpdateSpan<G, M, W>)` with the chunk's memory in its dtypes; the constructor of Optimizer throws
/// for other combinations.
template <class F>
void with_span(const UpdateTarget& target, int64_t begin, int64_t end, F&& f) {
  const ParamGroup& group = *target.group;
  const auto call = [&]<class G, class M, class W>(TypeTag<G>, TypeTag<M>, TypeTag<W>) {
    const int64_t flat = target.flat + begin;
    W* weight = nullptr;
    if (!group.weights().shares_storage_with(group.master())) weight = group.weights().data<W>() + flat;
    f(UpdateSpan<G, M, W>{end - begin, group.grads().data<G>() + flat,
                          group.master().data<M>() + flat - group.state_begin(), weight});
  };
  const Precision& precision = group.precision();
  const auto with_grad = [&]<class G>(TypeTag<G> g) {
    if (precision.compute == DType::kBFloat16)
      call(g, TypeTag<float>{}, TypeTag<BFloat16>{});
    else
      call(g, TypeTag<float>{}, TypeTag<float>{});
  };
  if (precision.master == DType::kFloat64)
    call(TypeTag<double>{}, TypeTag<double>{}, TypeTag<double>{});
  else if (precision.grad == DType::kBFloat16)
    with_grad(TypeTag<BFloat16>{});
  else
    with_grad(TypeTag<float>{});
}

}  // namespace tutti
