#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/models/gpt.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tutti {

/// How tokens are drawn.
struct SamplingConfig {
  int64_t tokens = 200;    ///< at most
  double temperature = 1;  ///< 0: the most probable token
  int64_t top_k = 0;       ///< of the k most probable tokens only; 0: of all
  double top_p = 1;        ///< of the fewest tokens that hold this probability together
  int64_t seed = 0;

  void describe(Fields& f);
};

/// Draws one of `logits` (fp32 values of one position). The number depends on seed and `position` alone. Of
/// equally probable tokens at a cut the one with the smaller id stays. Throws Error if a logit is NaN.
/// Source of top_p: Holtzman et al. 2020, "The curious case of neural text degeneration".
int32_t sample_token(std::span<const float> logits, const SamplingConfig& config, uint64_t position);

/// Continues `prompt` (at least one token) and returns the new tokens. `on_token` gets each as it comes and
/// ends the generation with false; may be empty. Past the model's context, the last half of it is kept and
/// the cache made anew. Throws Error if the prompt is empty or a token is not in the vocabulary.
std::vector<int32_t> generate(Gpt& model, std::span<const int32_t> prompt, const SamplingConfig& config,
                              const Stream& stream, const std::function<bool(int32_t)>& on_token = {});

}  // namespace tutti
