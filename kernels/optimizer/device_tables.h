#pragma once

#include "kernels/cuda/on_cuda.h"
#include "kernels/cuda/optimizer.h"
#include "kernels/optimizer/rule.h"

#include <array>
#include <cstring>
#include <span>

namespace tutti {

/// The tables of a rule's targets for its CUDA kernels, one for each combination of dtypes. They are built on
/// first use, and again when the addresses of the groups' gradients change.
class DeviceTables {
 public:
  /// `states` has, for each of the algorithm's states, one tensor per target.
  std::span<const cuda::UpdateTable> of(std::span<const UpdateTarget> targets,
                                        std::span<const UpdateChunk> chunks,
                                        std::span<const std::span<const Tensor>> states,
                                        const Stream& stream);

  /// The numbers of a step for the tables that of() last returned, in device memory. Their addresses do not
  /// change.
  std::vector<Tensor> numbers;

  /// The tables that of() last returned.
  [[nodiscard]] std::span<const cuda::UpdateTable> last() const { return tables_; }

 private:
  std::vector<cuda::UpdateTable> tables_;
  std::vector<const void*> gradients_;  // addresses when the tables were built
};

/// The algorithm's numbers (its constants for one step) for each role of the targets.
template <class M, template <class> class Algorithm, class F>
std::array<Algorithm<M>, cuda::kMaxRules> numbers_by_role(std::span<const UpdateTarget> targets,
                                                          F numbers_for) {
  std::array<Algorithm<M>, cuda::kMaxRules> numbers{};
  for (const UpdateTarget& t : targets) {
    numbers.at(static_cast<size_t>(t.parameter->role)) = numbers_for(TypeTag<M>{}, t.rule);
  }
  return numbers;
}

/// Calls f(TypeTag<M>) with the type of a table's masters.
template <class F>
void with_master(const cuda::UpdateTable& table, F f) {
  if (table.precision.master == DType::kFloat64)
    f(TypeTag<double>{});
  else
    f(TypeTag<float>{});
}

/// Copies the numbers of a step for the tables of `device` to device memory.
template <template <class> class Algorithm, class F>
void prepare_on_device(DeviceTables& device, std::span<const UpdateTarget> targets, const Stream& stream,
                       F numbers_for) {
  const auto tables = device.last();
  if (device.numbers.size() != tables.size()) device.numbers.assign(tables.size(), Tensor());
  for (size_t i = 0; i < tables.size(); ++i) {
    with_master(tables[i], [&]<class M>(TypeTag<M>) {
      const auto numbers = numbers_by_role<M, Algorithm>(targets, numbers_for);
      const Tensor pinned =
          Tensor::empty_pinned({static_cast<int64_t>(sizeof numbers)}, DType::kUInt8, stream);
      std::memcpy(pinned.raw(), numbers.data(), sizeof numbers);
      Tensor& on_device = device.numbers[i];
      if (!on_device.defined()) on_device = Tensor::empty(pinned.shape(), DType::kUInt8, stream);
      copy(on_device, pinned, stream);
    });
  }
}

/// One step of all tables with the prepared numbers.
template <template <class> class Algorithm>
void update_prepared(const DeviceTables& device, const Tensor& control, const Stream& stream) {
  const auto tables = device.last();
  require(device.numbers.size() == tables.size(), "optimizer: step_prepared() without prepare()");
  for (size_t i = 0; i < tables.size(); ++i) {
    with_master(tables[i], [&]<class M>(TypeTag<M>) {
      cuda::controlled_update<Algorithm<M>>(tables[i], device.numbers[i], control, stream);
    });
  }
}

/// One step of all tables; `numbers_for(TypeTag<M>, RoleRule)` returns the algorithm's numbers for a role.
template <template <class> class Algorithm, class F>
void update_on_device(std::span<const cuda::UpdateTable> tables, std::span<const UpdateTarget> targets,
                      const Stream& stream, F numbers_for) {
  for (const cuda::UpdateTable& table : tables) {
    with_master(table, [&]<class M>(TypeTag<M>) {
      const auto numbers = numbers_by_role<M, Algorithm>(targets, numbers_for);
      cuda::update<Algorithm<M>>(table, std::span<const Algorithm<M>>(numbers), stream);
    });
  }
}

}  // namespace tutti
