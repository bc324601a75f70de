#include <tutti/kernels/cpu/isa.h>
#include <tutti/kernels/optimizer/rule.h>

namespace tutti {
namespace {

template <class M>
struct SgdNumbers {
  M learning_rate, momentum, decay, grad_scale;
  bool nesterov;
};

/// Source: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning"; in the
/// form velocity <- momentum velocity + gradient, so that the learning rate may change.
template <class G, class M, class W>
void sgd_range(const UpdateSpan<G, M, W>& span, M* __restrict velocity, const SgdNumbers<M>& numbers) {
  run_best_isa([&] {
    const auto s = span;  // copies: what the loop writes cannot alias them
    const auto c = numbers;
    for (int64_t i = 0; i < s.n; ++i) {
      M x = s.master[i];
      const M g = static_cast<M>(s.grad[i]) * c.grad_scale + c.decay * x;
      const M v = c.momentum * velocity[i] + g;
      velocity[i] = v;
      x -= c.learning_rate * (c.nesterov ? g + c.momentum * v : v);
      s.master[i] = x;
      if (s.weight != nullptr) s.weight[i] = W(x);
    }
  });
}

class SgdRule final : public UpdateRule {
 public:
  SgdRule(const OptimizerConfig& config, std::vector<UpdateTarget> targets, const Stream& stream)
      : momentum_(config.momentum),
        nesterov_(config.nesterov),
        decay_(config.weight_decay),
        targets_(std::move(targets)),
        chunks_(cut_into_chunks(targets_)),
        velocity_(new_states(targets_, stream)) {}

  void step(const UpdateStep& now, const Stream& stream) override {
    stream.pool().parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
      const UpdateChunk& chunk = chunks_[static_cast<size_t>(i)];
      const UpdateTarget& target = targets_[chunk.target];
      with_span(target, chunk.begin, chunk.end, [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& s) {
        const SgdNumbers<M> numbers{
            static_cast<M>(now.learning_rate * target.rule.learning_rate), static_cast<M>(momentum_),
            static_cast<M>(decay_ * target.rule.weight_decay), static_cast<M>(now.grad_scale), nesterov_};
        sgd_range(s, velocity_[chunk.target].data<M>() + chunk.begin - target.begin, numbers);
      });
    });
  }

  void add_states(std::vector<StateTensor>& states) const override {
    for (size_t t = 0; t < targets_.size(); ++t) {
      states.push_back(targets_[t].checkpoint_part("momentum", velocity_[t]));
    }
  }

 private:
  double momentum_;
  bool nesterov_;
  double decay_;
  std::vector<UpdateTarget> targets_;
  std::vector<UpdateChunk> chunks_;
  std::vector<Tensor> velocity_;
};

/// Running averages of batch statistics; the gradient slot holds the batch's.
class StatisticRule final : public UpdateRule {
 public:
  StatisticRule(double momentum, std::vector<UpdateTarget> targets)
      : momentum_(momentum), targets_(std::move(targets)), chunks_(cut_into_chunks(targets_)) {}

  void step(const UpdateStep&, const Stream& stream) override {
    stream.pool().parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
      const UpdateChunk& chunk = chunks_[static_cast<size_t>(i)];
      with_span(targets_[chunk.target], chunk.begin, chunk.end,
                [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& s) {
                  const M m = static_cast<M>(momentum_);
                  for (int64_t k = 0; k < s.n; ++k) {
                    const M x = (1 - m) * s.master[k] + m * static_cast<M>(s.grad[k]);
                    s.master[k] = x;
                    if (s.weight != nullptr) s.weight[k] = W(x);
                  }
                });
    });
  }

  void add_states(std::vector<StateTensor>&) const override {}

 private:
  double momentum_;
  std::vector<UpdateTarget> targets_;
  std::vector<UpdateChunk> chunks_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_sgd_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                          const Stream& stream) {
  return std::make_unique<SgdRule>(config, std::move(targets), stream);
}

std::unique_ptr<UpdateRule> make_statistic_rule(const OptimizerConfig& config,
                                                std::vector<UpdateTarget> targets) {
  return std::make_unique<StatisticRule>(config.statistic_momentum, std::move(targets));
}

}  // namespace tutti
