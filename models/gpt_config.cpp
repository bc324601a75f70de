#include <tutti/models/gpt.h>

namespace tutti {

void GptConfig::apply_recipe() {
  const bool llama = recipe == "llama";
  norm = llama ? "rms" : "layer";
  positions = llama ? "rotary" : "learned";
  activation = llama ? "swiglu" : "gelu_tanh";
  bias = !llama;
  tied = !llama;
}

void GptConfig::describe(Fields& f) {
  const std::string before = recipe;
  f.choice("recipe", recipe, {"gpt2", "llama"},
           "defaults of norm, positions, activation, bias, tied and hidden");
  // Only where a reader has changed it: the keys below may have been set to something else already.
  if (recipe != before) apply_recipe();
  f.value("vocabulary", vocabulary, "tokens; 0: those of the data", not_negative());
  f.value("context", context, "longest sequence; 0: the data's", not_negative());
  f.value("layers", layers, "number of blocks", at_least(1));
  f.value("width", width, "of the residual stream", at_least(1));
  f.value("heads", heads, "attention heads", at_least(1));
  f.check(heads > 0 && width % heads == 0, "heads", "must divide the width");
  f.value("kv_heads", kv_heads, "heads of keys and values; 0: as many as heads", not_negative());
  f.check(kv_heads == 0 || heads % kv_heads == 0, "kv_heads", "must divide the number of heads");
  f.value("hidden", hidden, "width inside the feed-forward layer; 0: the recipe's", not_negative());
  f.choice("norm", norm, {"layer", "rms"}, "normalisation");
  f.value("norm_eps", norm_eps, "added to the variance or mean square", positive());
  f.choice("positions", positions, {"learned", "rotary"}, "how tokens know their place");
  f.check(positions != "rotary" || (heads > 0 && width / heads % 2 == 0), "positions",
          "rotary needs an even width / heads");
  f.value("rotary_base", rotary_base, "wave length base of rotary positions", at_least(1));
  f.choice("activation", activation, {"gelu_tanh", "gelu", "relu", "silu", "swiglu"},
           "of the feed-forward layer");
  f.value("bias", bias, "linear layers and layer norms add a bias");
  f.value("tied", tied, "embedding and head share their weights");
  f.value("dropout", dropout,
          "probability of dropping an activation after embedding, attention and feed-forward",
          fraction_below_one());
  f.value("init_deviation", init_deviation, "standard deviation of first weights", not_negative());
  f.value("recompute", recompute, "run blocks again in backward instead of keeping their activations");
  f.choice("fp8", fp8, {"none", "linear", "linear_and_head"},
           "products of these layers in fp8, the head's at some loss in narrow models (precision.compute: "
           "bf16; GPUs from sm_89 on; CPUs imitate it, "
           "slower)");
  f.value("loss_rows", loss_rows,
          "tokens whose logits the training loss holds at a time, to save memory; 0: all of a microbatch",
          at_least(0));
}

GptConfig GptConfig::resolved() const {
  GptConfig c = *this;
  require(c.vocabulary > 0 && c.context > 0 && c.layers > 0 && c.width > 0 && c.heads > 0,
          "gpt: vocabulary {}, context {}, layers {}, width {} and heads {} must be positive", c.vocabulary,
          c.context, c.layers, c.width, c.heads);
  if (c.kv_heads == 0) c.kv_heads = c.heads;
  require(c.width % c.heads == 0, "gpt: heads {} must divide width {}", c.heads, c.width);
  require(c.heads % c.kv_heads == 0, "gpt: kv_heads {} must divide heads {}", c.kv_heads, c.heads);
  require(c.positions != "rotary" || c.width / c.heads % 2 == 0,
          "gpt: rotary positions need an even head width, not {}", c.width / c.heads);
  if (c.hidden == 0) {
    constexpr int64_t kUnit = 64;
    c.hidden = c.recipe == "llama" ? (8 * c.width / 3 + kUnit - 1) / kUnit * kUnit : 4 * c.width;
  }
  return c;
}

}  // namespace tutti
