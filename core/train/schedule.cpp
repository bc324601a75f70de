#include <tutti/core/error.h>
#include <tutti/core/train/schedule.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace tutti {

void ScheduleConfig::describe(Fields& f) {
  f.choice("kind", kind, {"constant", "cosine", "wsd"},
           "shape after the warm-up; wsd: stable, then linear decay");
  f.value("warmup_steps", warmup_steps,
          "steps of linear warm-up; the first has 1 / warmup_steps of the peak, not 0", at_least(0));
  f.value("decay_steps", decay_steps, "last steps of a wsd schedule, in which the rate decays", at_least(0));
  f.value("final_ratio", final_ratio, "rate of the last step, as a fraction of the peak", between(0, 1));
}

double learning_rate_factor(const ScheduleConfig& config, int64_t step, int64_t total_steps) {
  // Step 0 is not 0: the warm-up counts steps done after this one.
  if (step < config.warmup_steps)
    return static_cast<double>(step + 1) / static_cast<double>(config.warmup_steps);
  if (config.kind == "constant") return 1;
  const bool cosine = config.kind == "cosine";
  require(cosine || config.kind == "wsd", "schedule.kind: expected one of constant, cosine, wsd, got '{}'",
          config.kind);
  const int64_t decay =
      cosine ? total_steps - config.warmup_steps : std::min(config.decay_steps, total_steps);
  const int64_t begin = cosine ? config.warmup_steps : total_steps - decay;
  if (step < begin || decay <= 1) return 1;
  const double progress = std::min(1.0, static_cast<double>(step - begin) / static_cast<double>(decay - 1));
  const double falling = cosine ? 0.5 * (1 + std::cos(std::numbers::pi * progress)) : 1 - progress;
  return config.final_ratio + (1 - config.final_ratio) * falling;
}

}  // namespace tutti
