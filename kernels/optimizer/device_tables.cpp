#include "kernels/optimizer/device_tables.h"

#include <algorithm>
#include <tuple>

namespace tutti {

std::span<const cuda::UpdateTable> DeviceTables::of(std::span<const UpdateTarget> targets,
                                                    std::span<const UpdateChunk> chunks,
                                                    std::span<const std::span<const Tensor>> states,
                                                    const Stream& stream) {
  if constexpr (kWithCuda) {
    std::vector<const void*> gradients;
    for (const UpdateTarget& target : targets) gradients.push_back(target.group->grads().raw());
    if (gradients == gradients_) return tables_;
    struct Entry {
      Precision precision;
      cuda::UpdatePiece piece;
    };
    std::vector<Entry> entries;
    for (const UpdateChunk& chunk : chunks) {
      const UpdateTarget& target = targets[chunk.target];
      with_span(target, chunk.begin, chunk.end, [&](const auto& span) {
        cuda::UpdatePiece piece{.grad = span.grad,
                                .master = span.master,
                                .weight = span.weight,
                                .states = {nullptr, nullptr},
                                .n = span.n,
                                .rule = static_cast<int32_t>(target.parameter->role)};
        size_t s = 0;
        for (const auto& state : states) {
          auto* const bytes = static_cast<std::byte*>(state[chunk.target].raw());
          piece.states[s++] = bytes + (chunk.begin - target.begin) * size_of(target.state_dtype());
        }
        entries.push_back({target.group->precision(), piece});
      });
    }
    const auto key = [](const Precision& p) { return std::tuple(p.compute, p.master, p.grad); };
    std::stable_sort(entries.begin(), entries.end(),
                     [&](const Entry& a, const Entry& b) { return key(a.precision) < key(b.precision); });
    tables_.clear();
    for (auto begin = entries.begin(); begin != entries.end();) {
      const auto end = std::find_if(
          begin, entries.end(), [&](const Entry& e) { return key(e.precision) != key(begin->precision); });
      std::vector<cuda::UpdatePiece> pieces;
      for (auto it = begin; it != end; ++it) pieces.push_back(it->piece);
      tables_.push_back(cuda::make_update_table(begin->precision, pieces, stream));
      begin = end;
    }
    gradients_ = std::move(gradients);
  }
  return tables_;
}

}  // namespace tutti
