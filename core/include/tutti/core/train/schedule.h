#pragma once

#include <tutti/core/config/fields.h>

#include <cstdint>
#include <string>

namespace tutti {

/// How the learning rate changes over a run: a linear warm-up, then one of
/// constant; cosine (Loshchilov & Hutter 2017) down to `final_ratio`; or stable with a linear decay over the
/// last `decay_steps` (warm-up-stable-decay, Hu et al. 2024).
struct ScheduleConfig {
  std::string kind = "cosine";
  int64_t warmup_steps = 0;
  int64_t decay_steps = 0;   ///< of `wsd`
  double final_ratio = 0.1;  ///< of the peak, at the last step

  void describe(Fields& f);
};

/// The factor on the peak learning rate for step `step` (0 for the first) of `total_steps`; in [0, 1]. The
/// first step has 1 / warmup_steps, the last one `final_ratio`: both change the weights. The schedules of
/// transformers are 0 at the first step and end one step before the end of the curve. Throws Error for a kind
/// that does not exist.
double learning_rate_factor(const ScheduleConfig& config, int64_t step, int64_t total_steps);

}  // namespace tutti
