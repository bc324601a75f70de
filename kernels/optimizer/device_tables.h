#pragma once

#include <tutti/kernels/cuda/on_cuda.h>
#include <tutti/kernels/cuda/optimizer.h>
#include <tutti/kernels/optimizer/rule.h>

#include <array>
#include <initializer_list>

namespace tutti {

/// The tables of a rule's targets for its CUDA kernels, one for each combination of dtypes. Made once, and
/// again when the groups' gradients have moved.
class DeviceTables {
 public:
  /// `states` has the tensors of each of the algorithm's states, one a target.
  std::span<const cuda::UpdateTable> of(std::span<const UpdateTarget> targets,
                                        std::span<const UpdateChunk> chunks,
                                        std::initializer_list<std::span<const Tensor>> states,
                                        const Stream& stream);

 private:
  std::vector<cuda::UpdateTable> tables_;
  std::vector<const void*> gradients_;  // of the targets' groups when the tables were made
};

/// One step of all tables; `numbers_for(TypeTag<M>, RoleRule)` gives the algorithm's numbers for a role.
template <template <class> class Algorithm, class F>
void update_on_device(std::span<const cuda::UpdateTable> tables, std::span<const UpdateTarget> targets,
                      const Stream& stream, F numbers_for) {
  for (const cuda::UpdateTable& table : tables) {
    const auto run = [&]<class M>(TypeTag<M> m) {
      std::array<Algorithm<M>, cuda::kMaxRules> numbers{};
      for (const UpdateTarget& t : targets) {
        numbers.at(static_cast<size_t>(t.parameter->role)) = numbers_for(m, t.rule);
      }
      cuda::update<Algorithm, M>(table, numbers, stream);
    };
    if (table.precision.master == DType::kFloat64)
      run(TypeTag<double>{});
    else
      run(TypeTag<float>{});
  }
}

}  // namespace tutti
