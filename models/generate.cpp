#include <tutti/models/generate.h>

#include <tutti/core/random.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace tutti {
namespace {

Tensor as_row(std::span<const int32_t> tokens, const Stream& stream) {
  return Tensor::from(tokens, {1, static_cast<int64_t>(tokens.size())}, stream);
}

/// Logits of the token that follows `tokens`. The cache contains a prefix of them, or is recomputed from
/// their end when the context is full.
Tensor next_logits(Gpt& model, std::span<const int32_t> tokens, size_t& cached, KvCache& cache,
                   const Stream& stream) {
  const auto context = static_cast<size_t>(model.config().context);
  const auto used = static_cast<size_t>(cache.used);
  if (used + tokens.size() - cached > context) {
    cache.used = 0;
    cached = tokens.size() - std::min(tokens.size(), std::max<size_t>(context / 2, 1));
  }
  const Tensor fresh = as_row(tokens.subspan(cached), stream);
  cached = tokens.size();
  return model.decode(fresh, cache, stream);
}

}  // namespace

void SamplingConfig::describe(Fields& f) {
  f.value("tokens", tokens, "tokens to generate", not_negative());
  f.value("temperature", temperature, "divides the logits; 0: always the most probable token",
          not_negative());
  f.value("top_k", top_k, "sample from this many most probable tokens; 0: from all", not_negative());
  f.value("top_p", top_p, "sample from the most probable tokens with this total probability", between(0, 1));
  f.value("seed", seed, "seed of the random numbers");
}

int32_t sample_token(std::span<const float> logits, const SamplingConfig& config, uint64_t position) {
  require(!logits.empty(), "sample_token: no logits");
  require(std::none_of(logits.begin(), logits.end(), [](float x) { return std::isnan(x); }),
          "sample_token: the logits of the model are NaN");
  const auto best = std::max_element(logits.begin(), logits.end());
  if (config.temperature <= 0) return static_cast<int32_t>(best - logits.begin());

  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (config.top_k > 0 && static_cast<size_t>(config.top_k) < order.size()) {
    order.resize(static_cast<size_t>(config.top_k));
  }
  std::vector<double> weights;
  double total = 0;
  for (const int32_t token : order) {
    const double difference = static_cast<double>(logits[static_cast<size_t>(token)]) - *best;
    weights.push_back(std::exp(difference / config.temperature));
    total += weights.back();
  }
  double kept = 0;
  size_t count = 0;
  while (count < weights.size() && (count == 0 || kept < config.top_p * total)) kept += weights[count++];

  const RandomKey key{
      .seed = static_cast<uint64_t>(config.seed), .tensor = stable_hash("generate"), .step = position};
  const auto words = key.words(0);
  double remaining = kept * static_cast<double>(words[0]) * 0x1.0p-32;
  for (size_t i = 0; i + 1 < count; ++i) {
    remaining -= weights[i];
    if (remaining < 0) return order[i];
  }
  return order[count - 1];
}

std::vector<int32_t> generate(Gpt& model, std::span<const int32_t> prompt, const SamplingConfig& config,
                              const Stream& stream, const std::function<bool(int32_t)>& on_token) {
  check_settings(config, "generate");
  require(!prompt.empty(), "generate: the prompt is empty");
  for (const int32_t token : prompt) {
    require(token >= 0 && token < model.config().vocabulary,
            "generate: token {} of the prompt is not in the model's vocabulary of {}", token,
            model.config().vocabulary);
  }
  std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  KvCache cache = model.make_cache(1, stream);
  size_t cached = 0;
  for (int64_t i = 0; i < config.tokens; ++i) {
    const Tensor logits = next_logits(model, tokens, cached, cache, stream).to(DType::kFloat32, stream);
    tokens.push_back(sample_token(logits.span<float>(), config, static_cast<uint64_t>(i)));
    if (on_token && !on_token(tokens.back())) break;
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(prompt.size()), tokens.end()};
}

}  // namespace tutti
