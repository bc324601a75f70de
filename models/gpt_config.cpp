#include <tutti/models/gpt.h>

#include <algorithm>

namespace tutti {

void GptConfig::apply_recipe() {
  const bool llama = recipe == "llama";
  norm = llama ? "rms" : "layer";
  positions = llama ? "rotary" : "learned";
  activation = llama ? "swiglu" : "gelu_tanh";
  bias = !llama;
  tied = !llama;
}

void GptAttention::describe(Fields& f) {
  f.value("scale", scale, "factor on products of queries and keys; 0: 1 / sqrt(head_dim)", not_negative());
  f.value("scale_by_layer", scale_by_layer, "divide it by the layer number, starting from 1");
  f.value("softcap", softcap, "c: scores become c tanh(score / c); 0: unchanged. On CPUs only",
          not_negative());
  f.value(
      "window", window,
      "positions that a position attends to, including itself; 0: all previous. On GPUs at least the context",
      not_negative());
  f.value("full_layers", full_layers, "layers without the window, starting from 0");
}

GptRotaryScaling::GptRotaryScaling() = default;

void GptRotaryScaling::describe(Fields& f) {
  f.choice("kind", kind, {"none", "linear", "llama3", "yarn"}, "how frequencies are reduced");
  f.value("factor", factor, "extension of the context", positive());
  f.value("original_context", original_context, "llama3, yarn: context before the extension", not_negative());
  f.check((kind != "llama3" && kind != "yarn") || original_context > 0, "original_context",
          "must be positive for llama3 and yarn");
  f.value("low_frequency", low_frequency, "llama3: pairs with fewer rotations in it are slowed by the factor",
          positive());
  f.value("high_frequency", high_frequency, "llama3: pairs with more rotations in it keep their frequency",
          positive());
  f.check(kind != "llama3" || high_frequency > low_frequency, "high_frequency",
          "must be above low_frequency");
  f.value("beta_fast", beta_fast, "yarn: pairs with more rotations in it keep their frequency", positive());
  f.value("beta_slow", beta_slow, "yarn: pairs with fewer rotations in it are slowed by the factor",
          positive());
  f.value("attention_factor", attention_factor,
          "yarn: factor on rotated queries and keys; 0: 0.1 ln(factor) + 1", not_negative());
}

RotaryScaling GptRotaryScaling::resolved() const {
  using Kind = RotaryScaling::Kind;
  if (kind == "none") return {};
  require(kind == "linear" || kind == "llama3" || kind == "yarn", "gpt: unknown rotary_scaling.kind '{}'",
          kind);
  require(factor > 0 && (kind == "linear" || original_context > 0),
          "gpt: rotary_scaling {} with factor {} and original_context {}", kind, factor, original_context);
  require(kind != "llama3" || high_frequency > low_frequency,
          "gpt: rotary_scaling.high_frequency {} must be above low_frequency {}", high_frequency,
          low_frequency);
  return {.kind = kind == "linear"   ? Kind::kLinear
                  : kind == "llama3" ? Kind::kLlama3
                                     : Kind::kYarn,
          .factor = factor,
          .original_context = static_cast<double>(original_context),
          .low_frequency = low_frequency,
          .high_frequency = high_frequency,
          .beta_fast = beta_fast,
          .beta_slow = beta_slow,
          .attention_factor = attention_factor};
}

void GptConfig::describe(Fields& f) {
  const std::string before = recipe;
  f.choice("recipe", recipe, {"gpt2", "llama"},
           "defaults of norm, positions, activation, bias, tied and hidden");
  // Only if it was changed by reading: the keys below may already have other values.
  if (recipe != before) apply_recipe();
  f.value("vocabulary", vocabulary, "tokens; 0: those of the data", not_negative());
  f.value("context", context, "longest sequence; 0: that of the data", not_negative());
  f.value("layers", layers, "number of blocks", between(1, kMostLayers));
  f.value("width", width, "of the residual stream", between(1, kMostWidth));
  f.value("heads", heads, "attention heads", between(1, kMostWidth));
  f.value("head_dim", head_dim, "width of a head; 0: width / heads", between(0, kMostWidth));
  f.check(head_dim > 0 || (heads > 0 && width % heads == 0), "heads",
          "must divide the width, unless head_dim is set");
  f.check(heads * head_dim <= kMostWidth, "head_dim", "heads * head_dim is too large");
  f.value("kv_heads", kv_heads, "heads of keys and values; 0: as many as heads", between(0, kMostWidth));
  f.check(kv_heads == 0 || heads % kv_heads == 0, "kv_heads", "must divide the number of heads");
  f.value("hidden", hidden, "width inside the feed-forward layer; 0: that of the recipe",
          between(0, kMostWidth));
  f.choice("norm", norm, {"layer", "rms"}, "normalisation");
  f.value("norm_eps", norm_eps, "added to the variance or mean square", positive());
  f.value("norm_offset", norm_offset, "norms multiply by 1 + weight (Gemma)");
  f.value("post_norms", post_norms, "the outputs of attention and feed-forward are normalised too (Gemma 2)");
  f.value("qk_norm", qk_norm, "queries and keys are normalised per head (Qwen3, Gemma 3)");
  f.choice("positions", positions, {"learned", "rotary"}, "position encoding");
  f.check(positions != "rotary" || (heads > 0 && (head_dim > 0 ? head_dim : width / heads) % 2 == 0),
          "positions", "rotary needs an even head_dim");
  f.value("rotary_base", rotary_base, "wave length base of rotary positions", at_least(1));
  f.value("rotary_local_base", rotary_local_base,
          "the same for layers with a window, to which rotary_scaling then does not apply; 0: rotary_base",
          not_negative());
  f.section("rotary_scaling", rotary_scaling, "scaling of rotary positions");
  f.section("attention", attention, "attended positions and computation of scores");
  f.check(attention.full_layers.empty() ||
              std::ranges::all_of(attention.full_layers, [&](int64_t i) { return i >= 0 && i < layers; }),
          "attention", "full_layers are numbers of layers, from 0 to layers - 1");
  f.choice("activation", activation, {"gelu_tanh", "gelu", "relu", "silu", "swiglu", "geglu", "geglu_tanh"},
           "of the feed-forward layer");
  f.value("bias", bias, "linear layers and layer norms add a bias");
  f.value("qkv_bias", qkv_bias, "the projection to queries, keys and values adds a bias; null: as bias");
  f.value("output_bias", output_bias, "the projection after attention adds a bias; null: as bias");
  f.value("mlp_bias", mlp_bias, "the feed-forward layer adds biases; null: as bias");
  f.value("tied", tied, "embedding and head share their weights");
  f.value("embedding_scale", embedding_scale, "factor on embeddings", positive());
  f.value("residual_scale", residual_scale, "factor on the outputs of attention and feed-forward",
          positive());
  f.value("logit_scale", logit_scale, "factor on logits", positive());
  f.value("logit_softcap", logit_softcap, "c: logits become c tanh(logit / c); 0: unchanged", not_negative());
  f.value("dropout", dropout,
          "probability of dropping an activation after embedding, attention and feed-forward",
          fraction_below_one());
  f.value("init_deviation", init_deviation, "standard deviation of initial weights", not_negative());
  f.value("recompute", recompute, "run blocks again in backward instead of keeping their activations");
  f.value("loss_rows", loss_rows,
          "tokens whose logits the training loss computes at a time, to save memory; 0: all of a microbatch",
          at_least(0));
}

GptConfig GptConfig::resolved() const {
  GptConfig c = *this;
  check_settings(c, "model");
  require(c.vocabulary > 0 && c.context > 0 && c.layers > 0 && c.width > 0 && c.heads > 0,
          "gpt: vocabulary {}, context {}, layers {}, width {} and heads {} must be positive", c.vocabulary,
          c.context, c.layers, c.width, c.heads);
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  require(c.head_dim > 0 || c.width % c.heads == 0, "gpt: heads {} must divide width {}", c.heads, c.width);
  if (c.head_dim == 0) c.head_dim = c.width / c.heads;
  require(c.heads % c.kv_heads == 0, "gpt: kv_heads {} must divide heads {}", c.kv_heads, c.heads);
  require(c.positions != "rotary" || c.head_dim % 2 == 0,
          "gpt: rotary positions need an even head width, not {}", c.head_dim);
  require(c.attention.window >= 0 && c.attention.softcap >= 0 && c.attention.scale >= 0,
          "gpt: attention.window {}, softcap {} and scale {} must not be negative", c.attention.window,
          c.attention.softcap, c.attention.scale);
  require(c.norm_eps > 0 && c.embedding_scale > 0 && c.residual_scale > 0 && c.logit_scale > 0,
          "gpt: norm_eps {}, embedding_scale {}, residual_scale {} and logit_scale {} must be positive",
          c.norm_eps, c.embedding_scale, c.residual_scale, c.logit_scale);
  require(c.rotary_base >= 1 && c.rotary_local_base >= 0 && c.logit_softcap >= 0,
          "gpt: rotary_base {} must be at least 1, rotary_local_base {} and logit_softcap {} at least 0",
          c.rotary_base, c.rotary_local_base, c.logit_softcap);
  for (const int64_t layer : c.attention.full_layers) {
    require(layer >= 0 && layer < c.layers, "gpt: attention.full_layers has {}, of {} layers", layer,
            c.layers);
  }
  (void)c.rotary_scaling.resolved();
  for (std::optional<bool>* own : {&c.qkv_bias, &c.output_bias, &c.mlp_bias}) *own = own->value_or(c.bias);
  if (c.hidden == 0) {
    constexpr int64_t kUnit = 64;
    c.hidden = c.recipe == "llama" ? (8 * c.width / 3 + kUnit - 1) / kUnit * kUnit : 4 * c.width;
  }
  return c;
}

bool GptConfig::has_window(int64_t layer) const {
  return attention.window > 0 &&
         std::ranges::find(attention.full_layers, layer) == attention.full_layers.end();
}

}  // namespace tutti
