#pragma once

#include "kernels/cpu/isa.h"
#include "kernels/optimizer/device_tables.h"

#include <array>
#include <utility>

namespace tutti {

/// The memory of one chunk's states; null if the algorithm has fewer.
template <class M>
struct StateSpan {
  M* __restrict first = nullptr;
  M* __restrict second = nullptr;
};

/// One step of a chunk.
template <class Algorithm, class G, class M, class W>
void update_range(const UpdateSpan<G, M, W>& span, const StateSpan<M>& states, const Algorithm& numbers) {
  const auto run = [&] {
    const auto s = span;  // copies, which the writes of the loop cannot alias
    const auto c = numbers;
    M* __restrict const first = states.first;
    M* __restrict const second = states.second;
    M unused = 0;
    for (int64_t i = 0; i < s.n; ++i) {
      M x = 0;
      const M grad = static_cast<M>(s.grad[i]);
      if constexpr (Algorithm::kStates == 2)
        x = c.update(s.master[i], grad, first[i], second[i]);
      else if constexpr (Algorithm::kStates == 1)
        x = c.update(s.master[i], grad, first[i], unused);
      else
        x = c.update(s.master[i], grad, unused, unused);
      s.master[i] = x;
      if (s.weight != nullptr) s.weight[i] = W(x);
    }
  };
  if constexpr (Algorithm::kStates == 0)
    run();  // running statistics have few elements
  else
    run_best_isa(run);
}

/// A rule that updates each element independently. `Algorithm` (kernels/row/optimizer.h) has the arithmetic
/// and the number of states; Numbers::of<M>(now, role) creates it for a step; Numbers::kStates are the names
/// of the states in checkpoints.
template <template <class> class Algorithm, class Numbers>
class ElementwiseRule final : public UpdateRule {
  static constexpr size_t kStates = Algorithm<float>::kStates;
  static_assert(Numbers::kStates.size() == kStates && kStates <= 2);

 public:
  ElementwiseRule(const Numbers& numbers, std::vector<UpdateTarget> targets, const Stream& stream)
      : numbers_(numbers), targets_(std::move(targets)), chunks_(cut_into_chunks(targets_)) {
    for (std::vector<Tensor>& state : states_) state = new_states(targets_, stream);
  }

  void step(const UpdateStep& now, const Stream& stream) override {
    if constexpr (kWithCuda) {
      if (on_cuda(stream))
        return update_on_device<Algorithm>(tables(stream), targets_, stream, numbers_for(now));
    }
    stream.pool().parallel_for(static_cast<int64_t>(chunks_.size()), [&](int64_t i) {
      const UpdateChunk& chunk = chunks_[static_cast<size_t>(i)];
      const UpdateTarget& target = targets_[chunk.target];
      with_span(target, chunk.begin, chunk.end, [&]<class G, class M, class W>(const UpdateSpan<G, M, W>& s) {
        StateSpan<M> states;
        const int64_t at = chunk.begin - target.begin;
        if constexpr (kStates > 0) states.first = states_[0][chunk.target].template data<M>() + at;
        if constexpr (kStates > 1) states.second = states_[1][chunk.target].template data<M>() + at;
        update_range(s, states, numbers_.template of<M>(now, target.rule));
      });
    });
  }

  [[nodiscard]] bool can_prepare() const override { return true; }
  void prepare(const UpdateStep& now, const Stream& stream) override {
    if constexpr (kWithCuda) {
      (void)tables(stream);
      prepare_on_device<Algorithm>(tables_, targets_, stream, numbers_for(now));
    }
  }
  void step_prepared(const Tensor& control, const Stream& stream) override {
    if constexpr (kWithCuda) update_prepared<Algorithm>(tables_, control, stream);
  }

  void add_states(std::vector<StateTensor>& states) const override {
    for (size_t t = 0; t < targets_.size(); ++t) {
      for (size_t s = 0; s < kStates; ++s)
        states.push_back(targets_[t].checkpoint_part(Numbers::kStates[s], states_[s][t]));
    }
  }

 private:
  [[nodiscard]] auto numbers_for(const UpdateStep& now) const {
    return
        [this, now]<class M>(TypeTag<M>, const RoleRule& role) { return numbers_.template of<M>(now, role); };
  }
  [[nodiscard]] std::span<const cuda::UpdateTable> tables(const Stream& stream) {
    std::array<std::span<const Tensor>, kStates> states;
    for (size_t s = 0; s < kStates; ++s) states[s] = states_[s];
    return tables_.of(targets_, chunks_, states, stream);
  }

  Numbers numbers_;
  std::vector<UpdateTarget> targets_;
  std::vector<UpdateChunk> chunks_;
  std::array<std::vector<Tensor>, kStates> states_;  // one tensor per target
  DeviceTables tables_;
};

}  // namespace tutti
