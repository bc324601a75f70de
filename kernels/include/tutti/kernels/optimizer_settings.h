#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

enum class Role : uint8_t;

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
  /// The factors for a role; throws Error for statistics, which have a separate rule.
  [[nodiscard]] const RoleRule& rule(Role role) const;
};

}  // namespace tutti
