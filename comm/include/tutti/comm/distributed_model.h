#pragma once

#include <tutti/comm/compute.h>
#include <tutti/comm/data_parallel.h>
#include <tutti/comm/parallel_settings.h>
#include <tutti/core/checkpoint/training_state.h>
#include <tutti/core/module.h>
#include <tutti/kernels/optimizer.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

struct DistributedModelConfig {
  Precision precision;
  ParallelConfig parallel;
  uint64_t seed = 0;  ///< of initial values
};

/// A model in the memory of the ranks of a world: its parameters in groups, and the data parallelism that
/// adds their gradients. Training and evaluation are both set up with it.
class DistributedModel {
 public:
  /// Collective over `world`. `world`, `model` and `compute` outlive this object. Allocates the parameters,
  /// which must be named (Module::name_parameters), and initialises them equally on every rank. Throws Error
  /// as make_param_groups, DataParallel and make_device_collective do.
  DistributedModel(Collective& world, Module& model, const DistributedModelConfig& config,
                   const Compute& compute);
  DistributedModel(const DistributedModel&) = delete;
  DistributedModel& operator=(const DistributedModel&) = delete;

  [[nodiscard]] Module& model() const noexcept { return model_; }
  [[nodiscard]] std::span<const std::unique_ptr<ParamGroup>> groups() const noexcept { return groups_; }
  [[nodiscard]] DataParallel& parallel() noexcept { return parallel_; }

  /// Weights and optimizer state, for Checkpoints.
  [[nodiscard]] TrainingState state(const Optimizer& optimizer) const;
  /// Must be called after state() has been restored: rounds the masters to the weights.
  void after_restore();

 private:
  Module& model_;
  Stream stream_;
  std::vector<std::unique_ptr<ParamGroup>> groups_;
  DataParallel parallel_;
};

}  // namespace tutti
