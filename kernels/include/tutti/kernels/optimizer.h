#pragma once

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/config/fields.h>
#include <tutti/core/param_group.h>
#include <tutti/core/train/trainer.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// Factors on the optimizer's learning rate and weight decay for parameters of one role.
struct RoleRule {
  double learning_rate = 1;
  double weight_decay = 1;

  void describe(Fields& f);
};

/// Settings of the matrix rule; the method is described in kernels/optimizer/muon.cpp.
struct MuonConfig {
  double momentum = 0.95;
  bool nesterov = true;
  int64_t iterations = 5;
  std::string scale = "match_adamw";
  bool split_packed = false;

  void describe(Fields& f);
};

/// Settings of an Optimizer. The learning rate is the peak that a schedule scales.
struct OptimizerConfig {
  std::string algorithm = "adamw";
  double learning_rate = 3e-4;
  double weight_decay = 0.1;
  double clip_norm = 1;
  double momentum = 0.9;
  bool nesterov = false;
  std::vector<double> betas = {0.9, 0.95};
  double eps = 1e-8;
  double statistic_momentum = 0.1;
  MuonConfig muon;
  RoleRule weight, head, embedding;
  RoleRule bias{.weight_decay = 0};
  RoleRule norm{.weight_decay = 0};

  void describe(Fields& f);
  /// The factors for a role; throws Error for statistics, which have a rule of their own.
  [[nodiscard]] const RoleRule& rule(Role role) const;
};

class UpdateRule;

/// Updates the parameters of groups from their gradients, in one pass over gradient, state and master that
/// also writes the weights in the compute dtype.
///
/// Parameters of Role::kStatistic get an average, x <- (1 - m) x + m grad (or grad itself), untouched by
/// learning rate, clipping and decay. Work is cut by the parameters' sizes alone: results are the same bits
/// for any number of threads, and, for rules that go element by element, for any sharding of the state.
class Optimizer final : public ParameterUpdate {
 public:
  /// `groups` outlive the optimizer. Throws Error if the algorithm needs whole matrices (Muon) and a group's
  /// state is sharded, or for a combination of dtypes other than fp32 masters with fp32 or bf16 gradients and
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
  /// One update with gradients * `grad_scale`. `step` is 0 for the first: Adam's bias correction counts from
  /// it.
  void step(double learning_rate, double grad_scale, int64_t step) override;
  /// On CUDA with rules that go element by element.
  [[nodiscard]] bool can_prepare() const override;
  void prepare(double learning_rate, int64_t step) override;
  Tensor step_prepared() override;

  /// What a checkpoint has to hold besides the weights, as views of the state: "NAME.momentum",
  /// "NAME.exp_avg", "NAME.exp_avg_sq", and "NAME.master" where masters are not the weights themselves.
  /// After the masters are restored, the groups' round_weights makes the weights from them.
  [[nodiscard]] std::vector<StateTensor> states() const;

 private:
  Tensor device_squares();

  OptimizerConfig config_;
  std::span<const std::unique_ptr<ParamGroup>> groups_;
  Stream stream_;
  std::vector<std::unique_ptr<UpdateRule>> rules_;
  struct DeviceNorm;
  std::unique_ptr<DeviceNorm> device_norm_;  // what grad_norm keeps for the device
};

}  // namespace tutti
