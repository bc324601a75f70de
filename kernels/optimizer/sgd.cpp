#include "kernels/cpu/isa.h"
#include "kernels/optimizer/device_tables.h"

namespace tutti {
namespace {

template <class G, class M, class W>
void sgd_range(const UpdateSpan<G, M, W>& span, M* __restrict velocity, const row::Sgd<M>& numbers) {
  run_best_isa([&] {
    const auto s = span;  // copies: what the loop writes cannot alias them
    const auto c = numbers;
    M unused = 0;
    for (int64_t i = 0; i < s.n; ++i) {
      const M x = c.update(s.master[i], static_cast<M>(s.grad[i]), velocity[i], unused);
      s.master[i] = x;
      if (s.weight != nullptr) s.weight[i] = W(x);
    }
  });
}

class SgdRule final : public UpdateRule {
  /// The numbers of a step for each role, by the masters' type.
  [[nodiscard]] auto numbers(const UpdateStep& now) const {
    return [=, this]<class M>(TypeTag<M>, const RoleRule& rule) {
      return row::Sgd<M>{static_cast<M>(now.learning_rate * rule.learning_rate), static_cast<M>(momentum_),
                         static_cast<M>(decay_ * rule.weight_decay), static_cast<M>(now.grad_scale),
                         nesterov_};
    };
  }

 public:
  SgdRule(const OptimizerConfig& config, std::vector<UpdateTarget> targets, const Stream& stream)
      : momentum_(config.momentum),
        nesterov_(config.nesterov),
        decay_(config.weight_decay),
        targets_(std::move(targets)),
        chunks_(cut_into_chunks(targets_)),
        velocity_(new_states(targets_, stream)) {}

  void step(const UpdateStep& now, const Stream& stream) override {
    const auto numbers_for = numbers(now);
    if constexpr (kWithCuda) {
      if (on_cuda(stream)) {
        return update_on_device<row::Sgd>(tables_.of(targets_, chunks_, {velocity_}, stream), targets_,
                                          stream, numbers_for);
      }
    }
    stream.pool().parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
      const UpdateChunk& chunk = chunks_[static_cast<size_t>(i)];
      const UpdateTarget& target = targets_[chunk.target];
      with_span(target, chunk.begin, chunk.end, [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& s) {
        sgd_range(s, velocity_[chunk.target].data<M>() + chunk.begin - target.begin,
                  numbers_for(TypeTag<M>{}, target.rule));
      });
    });
  }

  [[nodiscard]] bool can_prepare() const override { return true; }
  void prepare(const UpdateStep& now, const Stream& stream) override {
    if constexpr (kWithCuda) {
      (void)tables_.of(targets_, chunks_, {velocity_}, stream);
      prepare_on_device<row::Sgd>(tables_, targets_, stream, numbers(now));
    }
  }
  void step_prepared(const Tensor& control, const Stream& stream) override {
    if constexpr (kWithCuda) update_prepared<row::Sgd>(tables_, control, stream);
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
  DeviceTables tables_;
};

class StatisticRule final : public UpdateRule {
  [[nodiscard]] auto numbers() const {
    return [this]<class M>(TypeTag<M>, const RoleRule&) {
      return row::Statistic<M>{static_cast<M>(1 - momentum_), static_cast<M>(momentum_)};
    };
  }

 public:
  StatisticRule(double momentum, std::vector<UpdateTarget> targets)
      : momentum_(momentum), targets_(std::move(targets)), chunks_(cut_into_chunks(targets_)) {}

  void step(const UpdateStep&, const Stream& stream) override {
    if constexpr (kWithCuda) {
      if (on_cuda(stream)) {
        return update_on_device<row::Statistic>(tables_.of(targets_, chunks_, {}, stream), targets_, stream,
                                                numbers());
      }
    }
    stream.pool().parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
      const UpdateChunk& chunk = chunks_[static_cast<size_t>(i)];
      with_span(targets_[chunk.target], chunk.begin, chunk.end,
                [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& s) {
                  const row::Statistic<M> rule = numbers()(TypeTag<M>{}, RoleRule{});
                  M unused = 0;
                  for (int64_t k = 0; k < s.n; ++k) {
                    const M x = rule.update(s.master[k], static_cast<M>(s.grad[k]), unused, unused);
                    s.master[k] = x;
                    if (s.weight != nullptr) s.weight[k] = W(x);
                  }
                });
    });
  }

  [[nodiscard]] bool can_prepare() const override { return true; }
  void prepare(const UpdateStep&, const Stream& stream) override {
    if constexpr (kWithCuda) {
      (void)tables_.of(targets_, chunks_, {}, stream);
      prepare_on_device<row::Statistic>(tables_, targets_, stream, numbers());
    }
  }
  void step_prepared(const Tensor& control, const Stream& stream) override {
    if constexpr (kWithCuda) update_prepared<row::Statistic>(tables_, control, stream);
  }

  void add_states(std::vector<StateTensor>&) const override {}

 private:
  double momentum_;
  std::vector<UpdateTarget> targets_;
  std::vector<UpdateChunk> chunks_;
  DeviceTables tables_;
};

}  // namespace

std::unique_ptr<UpdateRule> make_sgd_rule(const OptimizerConfig& config, std::vector<UpdateTarget> targets,
                                          const Stream& stream) {
  return std::make_unique<SgdRule>(config, std::move(targets), stream);
}

std::unique_ptr<UpdateRule> make_statistic_rule(double momentum, std::vector<UpdateTarget> targets) {
  return std::make_unique<StatisticRule>(momentum, std::move(targets));
}

}  // namespace tutti
