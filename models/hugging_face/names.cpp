#include "models/hugging_face/names.h"

#include <tutti/core/error.h>

#include <map>

namespace tutti::hugging_face {
namespace {

using Parts = std::vector<std::pair<std::string, int64_t>>;

/// Finds parameters by Tutti's names and collects rows of the table.
class Table {
 public:
  explicit Table(Module& model) {
    for (Parameter* parameter : model.parameters()) own_[parameter->name] = parameter;
  }

  void add(const std::string& name, const std::string& own, bool transposed = false) {
    Parameter* parameter = own_.at(own);
    rows_.push_back({name, parameter, 0, parameter->shape[0], transposed});
  }
  /// Weight, and bias if the model has one.
  void add_layer(const std::string& name, const std::string& own, bool transposed = false) {
    add(name + ".weight", own + ".weight", transposed);
    if (own_.contains(own + ".bias")) add(name + ".bias", own + ".bias");
  }
  /// The same, split into parts of these numbers of rows.
  void add_parts(const Parts& parts, const std::string& own) {
    for (const char* const kind : {".weight", ".bias"}) {
      if (!own_.contains(own + kind)) continue;
      int64_t at = 0;
      for (const auto& [name, rows] : parts) {
        rows_.push_back({name + kind, own_.at(own + kind), at, at + rows, false});
        at += rows;
      }
    }
  }
  std::vector<ExternalTensor> take() { return std::move(rows_); }

 private:
  std::map<std::string, Parameter*> own_;
  std::vector<ExternalTensor> rows_;
};

std::vector<ExternalTensor> gpt2_names(Gpt& model) {
  Table table(model);
  table.add("transformer.wte.weight", "embedding.weight");
  table.add("transformer.wpe.weight", "position.weight");
  for (int64_t i = 0; i < model.config().layers; ++i) {
    const std::string theirs = fmt::format("transformer.h.{}.", i);
    const std::string ours = fmt::format("blocks.{}.", i);
    table.add_layer(theirs + "ln_1", ours + "norm1");
    table.add_layer(theirs + "attn.c_attn", ours + "attention.qkv", true);
    table.add_layer(theirs + "attn.c_proj", ours + "attention.output", true);
    table.add_layer(theirs + "ln_2", ours + "norm2");
    table.add_layer(theirs + "mlp.c_fc", ours + "mlp.up", true);
    table.add_layer(theirs + "mlp.c_proj", ours + "mlp.down", true);
  }
  table.add_layer("transformer.ln_f", "norm");
  if (!model.config().tied) table.add("lm_head.weight", "head.weight");
  return table.take();
}

std::vector<ExternalTensor> llama_names(Gpt& model, Packing packing) {
  const GptConfig& c = model.config();
  const int64_t kv_width = c.kv_heads * c.head_dim;
  Table table(model);
  table.add("model.embed_tokens.weight", "embedding.weight");
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string theirs = fmt::format("model.layers.{}.", i);
    const std::string ours = fmt::format("blocks.{}.", i);
    table.add_layer(theirs + "input_layernorm", ours + "norm1");
    if (packing == Packing::kPacked) {
      table.add_layer(theirs + "self_attn.qkv_proj", ours + "attention.qkv");
      table.add_layer(theirs + "mlp.gate_up_proj", ours + "mlp.up");
    } else {
      table.add_parts({{theirs + "self_attn.q_proj", c.heads * c.head_dim},
                       {theirs + "self_attn.k_proj", kv_width},
                       {theirs + "self_attn.v_proj", kv_width}},
                      ours + "attention.qkv");
      table.add_parts({{theirs + "mlp.gate_proj", c.hidden}, {theirs + "mlp.up_proj", c.hidden}},
                      ours + "mlp.up");
    }
    if (c.qk_norm) {
      table.add_layer(theirs + "self_attn.q_norm", ours + "attention.q_norm");
      table.add_layer(theirs + "self_attn.k_norm", ours + "attention.k_norm");
    }
    table.add_layer(theirs + "self_attn.o_proj", ours + "attention.output");
    if (c.post_norms) {
      table.add_layer(theirs + "post_attention_layernorm", ours + "post_norm1");
      table.add_layer(theirs + "pre_feedforward_layernorm", ours + "norm2");
      table.add_layer(theirs + "post_feedforward_layernorm", ours + "post_norm2");
    } else {
      table.add_layer(theirs + "post_attention_layernorm", ours + "norm2");
    }
    table.add_layer(theirs + "mlp.down_proj", ours + "mlp.down");
  }
  table.add_layer("model.norm", "norm");
  if (!c.tied) table.add("lm_head.weight", "head.weight");
  return table.take();
}

/// One line for each condition that does not hold.
class Obstacles {
 public:
  void unless(bool fits, const std::string& line) {
    if (fits) return;
    text_ += "\n  " + line;
    ++count_;
  }
  [[nodiscard]] int count() const { return count_; }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
  int count_ = 0;
};

Obstacles gpt2_obstacles(const GptConfig& c) {
  Obstacles o;
  o.unless(c.norm == "layer", fmt::format("model.norm is {}, GPT-2 has layer", c.norm));
  o.unless(c.positions == "learned", fmt::format("model.positions is {}, GPT-2 has learned", c.positions));
  o.unless(!c.activation.ends_with("glu") && !c.activation.ends_with("glu_tanh"),
           fmt::format("model.activation is {}, GPT-2 has no gated one", c.activation));
  o.unless(c.kv_heads == c.heads,
           fmt::format("model.kv_heads is {}, GPT-2 has as many as model.heads, {}", c.kv_heads, c.heads));
  o.unless(c.heads * c.head_dim == c.width,
           fmt::format("model.head_dim is {}, GPT-2 has width / heads", c.head_dim));
  for (const auto& [key, value] :
       {std::pair{"qkv_bias", c.qkv_bias}, {"output_bias", c.output_bias}, {"mlp_bias", c.mlp_bias}}) {
    o.unless(value == c.bias, fmt::format("model.{} is {}, GPT-2 has all biases or none (model.bias is {})",
                                          key, value.value_or(c.bias), c.bias));
  }
  for (const auto& [key, value] :
       {std::pair{"norm_offset", c.norm_offset}, {"post_norms", c.post_norms}, {"qk_norm", c.qk_norm}}) {
    o.unless(!value, fmt::format("model.{} is true, GPT-2 has none", key));
  }
  return o;
}

Obstacles llama_obstacles(const GptConfig& c) {
  Obstacles o;
  o.unless(c.norm == "rms", fmt::format("model.norm is {}, Llama has rms", c.norm));
  o.unless(c.positions == "rotary", fmt::format("model.positions is {}, Llama has rotary", c.positions));
  o.unless(c.activation.ends_with("glu") || c.activation.ends_with("glu_tanh"),
           fmt::format("model.activation is {}, Llama has a gated one", c.activation));
  return o;
}

}  // namespace

std::vector<ExternalTensor> tensor_names(Gpt& model, Packing packing) {
  const Obstacles gpt2 = gpt2_obstacles(model.config());
  if (gpt2.count() == 0) return gpt2_names(model);
  const Obstacles llama = llama_obstacles(model.config());
  if (llama.count() == 0) return llama_names(model, packing);
  const bool is_llama = llama.count() < gpt2.count();
  fail("transformers has no names for the tensors of this gpt; the nearest is {}:{}",
       is_llama ? "Llama" : "GPT-2", is_llama ? llama.text() : gpt2.text());
}

std::vector<std::pair<std::string, int64_t>> absent_biases(const Gpt& model) {
  const GptConfig& c = model.config();
  std::vector<std::pair<std::string, int64_t>> biases;
  if (c.bias || gpt2_obstacles(c).count() > 0) return biases;
  for (int64_t i = 0; i < c.layers; ++i) {
    const std::string block = fmt::format("transformer.h.{}.", i);
    for (const auto& [layer, length] : {std::pair{"ln_1", c.width},
                                        {"attn.c_attn", 3 * c.width},
                                        {"attn.c_proj", c.width},
                                        {"ln_2", c.width},
                                        {"mlp.c_fc", c.hidden},
                                        {"mlp.c_proj", c.width}})
      biases.emplace_back(block + layer + ".bias", length);
  }
  biases.emplace_back("transformer.ln_f.bias", c.width);
  return biases;
}

std::string hint(std::string_view name, bool missing) {
  const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
  const auto set = [&](std::string_view key) {
    return fmt::format("set model.{}: {}", key, missing ? "false" : "true");
  };
  if (name.ends_with("lm_head.weight")) return fmt::format("set model.tied: {}", missing);
  if (has("q_norm") || has("k_norm")) return set("qk_norm");
  if (has("_feedforward_layernorm")) return set("post_norms");
  if (name.ends_with(".bias")) {
    if (has("q_proj") || has("k_proj") || has("v_proj") || has("qkv_proj")) return set("qkv_bias");
    if (has("o_proj")) return set("output_bias");
    return has("gate") || has("up_proj") || has("down_proj") ? set("mlp_bias") : set("bias");
  }
  if (has("wpe.weight")) return fmt::format("set model.positions: {}", missing ? "rotary" : "learned");
  if (has(".layers.") || has(".h.") || name.starts_with("layers.") || name.starts_with("h."))
    return missing ? "is model.layers right?" : "is model.layers right, and model.recipe?";
  return "";
}

}  // namespace tutti::hugging_face
