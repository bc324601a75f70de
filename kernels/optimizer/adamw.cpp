#include "kernels/cpu/isa.h"
#include "kernels/optimizer/device_tables.h"

#include <cmath>

namespace tutti {
namespace {

template <class G, class M, class W>
void adamw_range(const UpdateSpan<G, M, W>& span, M* __restrict mean, M* __restrict square,
                 const row::AdamW<M>& numbers) {
  run_best_isa([&] {
    const auto s = span;  // copies: what the loop writes cannot alias them
    const auto c = numbers;
    for (int64_t i = 0; i < s.n; ++i) {
      const M x = c.update(s.master[i], static_cast<M>(s.grad[i]), mean[i], square[i]);
      s.master[i] = x;
      if (s.weight != nullptr) s.weight[i] = W(x);
    }
  });
}

class AdamWRule final : public UpdateRule {
  /// The numbers of a step for each role, by the masters' type.
  [[nodiscard]] auto numbers(const UpdateStep& now) const {
    const auto t = static_cast<double>(now.step + 1);
    const double correction1 = 1 - std::pow(beta1_, t);
    const double correction2 = 1 - std::pow(beta2_, t);
    return [=, this]<class M>(TypeTag<M>, const RoleRule& rule) {
      const double rate = now.learning_rate * rule.learning_rate;
      return row::AdamW<M>{static_cast<M>(1 - rate * decay_ * rule.weight_decay),
                           static_cast<M>(rate / correction1),
                           static_cast<M>(1 - beta1_),
                           static_cast<M>(beta2_),
                           static_cast<M>(1 - beta2_),
                           static_cast<M>(1 / std::sqrt(correction2)),
                           static_cast<M>(eps_),
                           static_cast<M>(now.grad_scale)};
    };
  }

 public:
  AdamWRule(const OptimizerConfig& config, std::vector<UpdateTarget> targets, const Stream& stream)
      : beta1_(config.betas[0]),
        beta2_(config.betas[1]),
        eps_(config.eps),
        decay_(config.weight_decay),
        targets_(std::move(targets)),
        chunks_(cut_into_chunks(targets_)),
        mean_(new_states(targets_, stream)),
        square_(new_states(targets_, stream)) {}

  void step(const UpdateStep& now, const Stream& stream) override {
    const auto numbers_for = numbers(now);
    if constexpr (kWithCuda) {
      if (on_cuda(stream)) {
        return update_on_device<row::AdamW>(tables_.of(targets_, chunks_, {mean_, square_}, stream), targets_,
                                            stream, numbers_for);
      }
    }
    stream.pool().parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
      const UpdateChunk& chunk = chunks_[static_cast<size_t>(i)];
      const UpdateTarget& target = targets_[chunk.target];
      with_span(target, chunk.begin, chunk.end, [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& s) {
        const int64_t at = chunk.begin - target.begin;
        adamw_range(s, mean_[chunk.target].data<M>() + at, square_[chunk.target].data<M>() + at,
                    numbers_for(TypeTag<M>{}, target.rule));
      });
    });
  }

  [[nodiscard]] bool can_prepare() const override { return true; }
  void prepare(const UpdateStep& now, const Stream& stream) override {
    if constexpr (kWithCuda) {
      (void)tables_.of(targets_, chunks_, {mean_, square_}, stream);
      prepare_on_device<row::AdamW>(tables_, targets_, stream, numbers(now));
    }
  }
  void step_prepared(const Tensor& control, const Stream& stream) override {
    if constexpr (kWithCuda) update_prepared<row::AdamW>(tables_, control, stream);
  }

  void add_states(std::vector<StateTensor>& states) const override {
    for (size_t t = 0; t < targets_.size(); ++t) {
      states.push_back(targets_[t].checkpoint_part("exp_avg", mean_[t]));
      states.push_back(targets_[t].checkpoint_part("exp_avg_sq", square_[t]));
    }
  }

 private:
  double beta1_, beta2_, eps_, decay_;
  std::vector<UpdateTarget> targets_;
  std::vector<UpdateChunk> chunks_;
  std::vector<Tensor> mean_, square_;
  DeviceTables tables_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_adamw_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                            const Stream& stream) {
  return std::make_unique<AdamWRule>(config, std::move(targets), stream);
}

}  // namespace tutti
