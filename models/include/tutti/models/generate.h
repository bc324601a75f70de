#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/models/gpt.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace tutti {

/// Sampling of tokens.
struct SamplingConfig {
  int64_t tokens = 200;    ///< at most
  double temperature = 1;  ///< 0: the most probable token
  int64_t top_k = 0;       ///< sample from the k most probable tokens; 0: from all
  double top_p = 1;        ///< sample from the smallest set of tokens with this total probability
  int64_t seed = 0;

  void describe(Fields& f);
};

/// Draws one of `logits` (fp32 values of one position). The random number depends only on seed and
/// `position`. Of equally probable tokens at a cut-off, the one with the smaller id is kept. Throws Error if
/// a logit is NaN. Source of top_p: Holtzman et al. 2020, "The curious case of neural text degeneration".
int32_t sample_token(std::span<const float> logits, const SamplingConfig& config, uint64_t position);

/// Continues `prompt` (at least one token) and returns the new tokens. `on_token` receives each token and
/// ends the generation by returning false; may be empty. When the model's context is full, its last half is
/// kept and the cache is recomputed. Throws Error if the prompt is empty or a token is not in the vocabulary.
std::vector<int32_t> generate(Gpt& model, std::span<const int32_t> prompt, const SamplingConfig& config,
                              const Stream& stream, const std::function<bool(int32_t)>& on_token = {});

}  // namespace tutti
