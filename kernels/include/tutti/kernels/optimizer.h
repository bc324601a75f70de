#pragma once

#include <tutti/core/checkpoint/training_state.h>
#include <tutti/core/param_group.h>
#include <tutti/core/train/parameter_update.h>
#include <tutti/kernels/optimizer_settings.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

class UpdateRule;

/// Updates the parameters of groups from their gradients, in one pass over gradient, state and master that
/// also writes the weights in the compute dtype.
///
/// Parameters of Role::kStatistic are averages, x <- (1 - m) x + m grad (or grad itself), without learning
/// rate, clipping and decay. Tasks depend on the sizes of the parameters alone: results have the same bits
/// for any number of threads, and, for elementwise rules, for any sharding of the state.
class Optimizer final : public ParameterUpdate {
 public:
  /// `groups` outlive the optimizer. Throws Error if the algorithm needs whole matrices (Muon) and a group's
  /// state is sharded, or for combinations of dtypes other than fp32 masters with fp32 or bf16 gradients and
  /// weights, and fp64 throughout.
  Optimizer(OptimizerConfig config, std::span<const std::unique_ptr<ParamGroup>> groups, Stream stream);
  ~Optimizer() override;

  [[nodiscard]] const OptimizerConfig& config() const noexcept { return config_; }

  /// L2 norm of all gradients that are not statistics; partial sums in fp64 in a fixed order that does not
  /// depend on how parameters are grouped.
  double grad_norm() override;
  /// min(1, clip_norm / norm); 1 without clipping.
  [[nodiscard]] double clip_scale(double norm) const override;
  [[nodiscard]] double peak_learning_rate() const override { return config_.learning_rate; }
  /// One update with gradients * `grad_scale`. `step` is 0 for the first step; Adam's bias correction depends
  /// on it.
  void step(double learning_rate, double grad_scale, int64_t step) override;
  /// True on CUDA with elementwise rules.
  [[nodiscard]] bool can_prepare() const override;
  void prepare(double learning_rate, int64_t step) override;
  Tensor step_prepared() override;

  /// The tensors of a checkpoint besides the weights, as views of the state: "NAME.momentum", "NAME.exp_avg",
  /// "NAME.exp_avg_sq", and "NAME.master" if masters are not the weights themselves. After restoring masters,
  /// call the groups' round_weights to compute the weights from them.
  [[nodiscard]] std::vector<StateTensor> states() const;

 private:
  Tensor device_squares();

  OptimizerConfig config_;
  std::span<const std::unique_ptr<ParamGroup>> groups_;
  Stream stream_;
  std::vector<std::unique_ptr<UpdateRule>> rules_;
  struct DeviceNorm;
  std::unique_ptr<DeviceNorm> device_norm_;  // tables of grad_norm on the device
};

}  // namespace tutti
