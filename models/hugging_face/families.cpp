#include "models/hugging_face/reader.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <cmath>

namespace tutti::hugging_face {
namespace {

// Which activations compute the same: transformers/activations.py.
std::string activation_of(Reader& from, const std::string& key, const std::string& otherwise, bool is_gated) {
  const std::string name = from.text(key, otherwise, "activation");
  if (name == "silu" || name == "swish") return is_gated ? "swiglu" : "silu";
  if (name == "gelu" || name == "gelu_python") return is_gated ? "geglu" : "gelu";
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast")
    return is_gated ? "geglu_tanh" : "gelu_tanh";
  if (name == "relu" && !is_gated) return name;
  from.refuse(key, "is not supported");
}

std::string activation_name(const std::string& ours) {
  if (ours == "swiglu") return "silu";
  if (ours == "geglu") return "gelu";
  if (ours == "geglu_tanh") return "gelu_pytorch_tanh";
  if (ours == "gelu_tanh") return "gelu_new";
  return ours;
}

bool absent(const Reader& from, const std::string& key) {
  return !from.object().contains(key);
}

void read_gpt2(Reader& from, GptConfig& to) {
  to.recipe = "gpt2";
  to.apply_recipe();
  to.vocabulary = from.whole("vocab_size", std::nullopt, "vocabulary");
  to.context = from.whole("n_positions", std::nullopt, "context");
  to.layers = from.whole("n_layer", std::nullopt, "layers");
  to.width = from.whole("n_embd", std::nullopt, "width");
  to.heads = from.whole("n_head", std::nullopt, "heads");
  to.hidden = from.whole("n_inner", 4 * to.width, "hidden");
  to.norm_eps = from.number("layer_norm_epsilon", 1e-5, "norm_eps");
  to.activation = activation_of(from, "activation_function", "gelu_new", false);
  to.tied = from.flag("tie_word_embeddings", true, "tied");
  // For models without biases, whose files may omit them or contain zeros.
  to.bias = from.flag("bias", true, "bias");
  if (!from.flag("scale_attn_weights", true, "attention.scale")) to.attention.scale = 1;
  to.attention.scale_by_layer =
      from.flag("scale_attn_by_inverse_layer_idx", false, "attention.scale_by_layer");
  from.only("add_cross_attention", false);
}

void write_gpt2(const GptConfig& from, Json& to) {
  to["vocab_size"] = from.vocabulary;
  to["n_positions"] = from.context;
  to["n_embd"] = from.width;
  to["n_layer"] = from.layers;
  to["n_head"] = from.heads;
  to["n_inner"] = from.hidden;
  to["activation_function"] = activation_name(from.activation);
  to["layer_norm_epsilon"] = from.norm_eps;
  to["scale_attn_weights"] = from.attention.scale != 1;
  to["scale_attn_by_inverse_layer_idx"] = from.attention.scale_by_layer;
  to["tie_word_embeddings"] = from.tied;
  for (const char* const key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) to[key] = from.dropout;
  if (!from.bias) to["bias"] = false;
}

/// What differs between the families that follow Llama.
struct Defaults {
  double norm_eps = 1e-6;
  bool tied = false;
  const char* activation_key = "hidden_act";
  const char* activation = "silu";
};

void read_common(Reader& from, GptConfig& to, const Defaults& defaults) {
  to.recipe = "llama";
  to.apply_recipe();
  to.vocabulary = from.whole("vocab_size", std::nullopt, "vocabulary");
  to.context = from.whole("max_position_embeddings", std::nullopt, "context");
  to.layers = from.whole("num_hidden_layers", std::nullopt, "layers");
  to.width = from.whole("hidden_size", std::nullopt, "width");
  to.heads = from.whole("num_attention_heads", std::nullopt, "heads");
  to.kv_heads = from.whole("num_key_value_heads", to.heads, "kv_heads");
  to.head_dim = from.whole("head_dim", 0, "head_dim");
  to.hidden = from.whole("intermediate_size", std::nullopt, "hidden");
  to.norm_eps = from.number("rms_norm_eps", defaults.norm_eps, "norm_eps");
  to.tied = from.flag("tie_word_embeddings", defaults.tied, "tied");
  to.activation = activation_of(from, defaults.activation_key, defaults.activation, true);
  to.qkv_bias = to.output_bias = to.mlp_bias = false;
}

void read_attention_bias(Reader& from, GptConfig& to) {
  to.qkv_bias = to.output_bias = from.flag("attention_bias", false, "qkv_bias");
  from.note("output_bias", "attention_bias");
}

/// Layers whose entry of layer_types is "full_attention", or, without that key, for which `is_full` is true,
/// have full attention; the others have a window, which must not be 0 in transformers.
template <class F>
void read_windows(Reader& from, GptConfig& to, int64_t window, F is_full) {
  const nlohmann::json* const types = from.find("layer_types");
  if (types != nullptr && (!types->is_array() || static_cast<int64_t>(types->size()) != to.layers))
    from.refuse("layer_types", fmt::format("expected a list of {} texts, one per layer", to.layers));
  to.attention.window = window;
  to.attention.full_layers.clear();
  for (int64_t i = 0; i < to.layers; ++i) {
    bool full = false;
    if (types == nullptr) {
      full = is_full(i);
    } else {
      const nlohmann::json& type = (*types)[static_cast<size_t>(i)];
      if (type != "full_attention" && type != "sliding_attention")
        from.refuse("layer_types", "only full_attention and sliding_attention are supported");
      full = type == "full_attention";
    }
    if (full) to.attention.full_layers.push_back(i);
  }
  from.note("attention.full_layers", "layer_types");
  if (static_cast<int64_t>(to.attention.full_layers.size()) == to.layers) {
    to.attention.window = 0;
    to.attention.full_layers.clear();
  } else if (window == 0) {
    from.refuse(types != nullptr ? "layer_types" : "sliding_window",
                "layers of sliding_attention need a sliding_window, and in Qwen use_sliding_window: true");
  }
}

void write_common(const GptConfig& from, Json& to) {
  to["vocab_size"] = from.vocabulary;
  to["hidden_size"] = from.width;
  to["intermediate_size"] = from.hidden;
  to["num_hidden_layers"] = from.layers;
  to["num_attention_heads"] = from.heads;
  to["num_key_value_heads"] = from.kv_heads;
  to["head_dim"] = from.head_dim;
  to["hidden_act"] = activation_name(from.activation);
  to["max_position_embeddings"] = from.context;
  to["rms_norm_eps"] = from.norm_eps;
  to["tie_word_embeddings"] = from.tied;
  to["attention_dropout"] = 0.0;
  write_rope(from, to);
}

void write_layer_types(const GptConfig& from, Json& to) {
  Json types = Json::array();
  for (int64_t i = 0; i < from.layers; ++i)
    types.push_back(from.has_window(i) ? "sliding_attention" : "full_attention");
  to["layer_types"] = types;
}

Json window_json(const GptConfig& from) {
  return from.attention.window > 0 ? Json(from.attention.window) : Json();
}

void read_llama(Reader& from, GptConfig& to) {
  read_common(from, to, {});
  read_attention_bias(from, to);
  to.mlp_bias = from.flag("mlp_bias", false, "mlp_bias");
  read_rope(from, to);
}

void write_llama(const GptConfig& from, Json& to) {
  write_common(from, to);
  to["attention_bias"] = *from.qkv_bias;
  to["mlp_bias"] = *from.mlp_bias;
}

void read_mistral(Reader& from, GptConfig& to) {
  read_common(from, to, {});
  const int64_t window = absent(from, "sliding_window") ? 4096 : 0;
  to.attention.window = from.whole("sliding_window", window, "attention.window");
  read_rope(from, to);
}

void write_mistral(const GptConfig& from, Json& to) {
  write_common(from, to);
  to["sliding_window"] = window_json(from);
}

void read_phi3(Reader& from, GptConfig& to) {
  read_common(from, to, {.norm_eps = 1e-5});
  to.attention.window = from.whole("sliding_window", 0, "attention.window");
  read_rope(from, to);
}

void read_qwen(Reader& from, GptConfig& to) {
  const bool slides = from.flag("use_sliding_window", false);
  const int64_t window = from.whole("sliding_window", absent(from, "sliding_window") ? 4096 : 0,
                                    "attention.window", slides ? 1 : 0);
  const int64_t first = from.whole("max_window_layers", 28, "", 0);
  const bool none = !slides || window == 0;
  read_windows(from, to, none ? 0 : window, [&](int64_t i) { return none || i < first; });
  if (!slides) from.note("attention.window", "use_sliding_window");
  read_rope(from, to);
}

void read_qwen2(Reader& from, GptConfig& to) {
  read_common(from, to, {});
  to.qkv_bias = true;
  read_qwen(from, to);
}

void read_qwen3(Reader& from, GptConfig& to) {
  read_common(from, to, {});
  if (from.find("head_dim") == nullptr) to.head_dim = 128;
  to.qk_norm = true;
  read_attention_bias(from, to);
  read_qwen(from, to);
}

void write_qwen2(const GptConfig& from, Json& to) {
  write_common(from, to);
  if (from.head_dim * from.heads == from.width) to.erase("head_dim");
  to["use_sliding_window"] = from.attention.window > 0;
  to["sliding_window"] = window_json(from);
  int64_t first = 0;  // for versions without layer_types
  while (first < from.layers && !from.has_window(first)) ++first;
  to["max_window_layers"] = first;
  write_layer_types(from, to);
}

void write_qwen3(const GptConfig& from, Json& to) {
  write_qwen2(from, to);
  to["head_dim"] = from.head_dim;
  to["attention_bias"] = *from.qkv_bias;
}

void read_gemma_common(Reader& from, GptConfig& to, const char* activation_key) {
  read_common(from, to, {.tied = true, .activation_key = activation_key, .activation = "gelu_pytorch_tanh"});
  if (from.find("head_dim") == nullptr) to.head_dim = 256;
  to.norm_offset = true;
  to.embedding_scale = std::sqrt(static_cast<double>(to.width));
  from.note_text("embedding_scale", "the square root of hidden_size");
  read_attention_bias(from, to);
  from.only("use_bidirectional_attention", false);
}

void read_gemma(Reader& from, GptConfig& to) {
  read_gemma_common(from, to, "hidden_act");
  // The first files use gelu for the approximation; transformers reads them that way.
  if (from.text("hidden_act", "") == "gelu") to.activation = "geglu_tanh";
  // transformers 4 preferred this key, 5 does not read it.
  if (from.find("hidden_activation") != nullptr &&
      activation_of(from, "hidden_activation", "", true) != to.activation)
    from.refuse(
        "hidden_activation",
        "expected the function of hidden_act, which transformers 5 reads instead (absent and gelu mean "
        "gelu_pytorch_tanh there)");
  from.note("activation", "hidden_act");
  read_rope(from, to);
}

void write_gemma(const GptConfig& from, Json& to) {
  write_common(from, to);
  // transformers reads gelu in hidden_act as the approximation.
  const std::string name = from.activation == "geglu" ? "gelu_python" : activation_name(from.activation);
  to["hidden_act"] = to["hidden_activation"] = name;
  to["attention_bias"] = *from.qkv_bias;
}

/// The common keys of Gemma 2 and 3.
void read_gemma_scores(Reader& from, GptConfig& to, double logit_softcap) {
  to.post_norms = true;
  to.attention.scale = 1 / std::sqrt(from.number("query_pre_attn_scalar", 256.0, "attention.scale"));
  to.logit_softcap =
      from.number("final_logit_softcapping", absent(from, "final_logit_softcapping") ? logit_softcap : 0,
                  "logit_softcap");
}

int64_t gemma_window(Reader& from) {
  return from.whole("sliding_window", absent(from, "sliding_window") ? 4096 : 0, "attention.window");
}

void write_gemma_scores(const GptConfig& from, Json& to) {
  write_gemma(from, to);
  to.erase("hidden_act");
  const double scale = from.attention.scale > 0 ? from.attention.scale : 1 / std::sqrt(double(from.head_dim));
  to["query_pre_attn_scalar"] = static_cast<int64_t>(std::llround(std::min(1e12, 1 / (scale * scale))));
  to["final_logit_softcapping"] = from.logit_softcap > 0 ? Json(from.logit_softcap) : Json();
  // transformers builds the mask of a window even if no layer has one, and refuses null.
  to["sliding_window"] = from.attention.window > 0 ? from.attention.window : from.context;
  write_layer_types(from, to);
}

void read_gemma2(Reader& from, GptConfig& to) {
  read_gemma_common(from, to, "hidden_activation");
  (void)from.find("hidden_act");  // of old files; transformers takes the other
  read_gemma_scores(from, to, 30);
  to.attention.softcap = from.number(
      "attn_logit_softcapping", absent(from, "attn_logit_softcapping") ? 50.0 : 0.0, "attention.softcap");
  read_windows(from, to, gemma_window(from), [](int64_t i) { return (i + 1) % 2 == 0; });
  read_rope(from, to);
}

void write_gemma2(const GptConfig& from, Json& to) {
  write_gemma_scores(from, to);
  to["attn_logit_softcapping"] = from.attention.softcap > 0 ? Json(from.attention.softcap) : Json();
}

void read_gemma3_windows(Reader& from, GptConfig& to) {
  const int64_t pattern = from.whole("sliding_window_pattern", 6);
  const int64_t other = from.whole("_sliding_window_pattern", pattern);
  if (from.find("layer_types") == nullptr && other != pattern)
    from.refuse("_sliding_window_pattern",
                fmt::format("transformers ignores this key and uses sliding_window_pattern, here {}; "
                            "write layer_types, or remove this key",
                            pattern));
  read_windows(from, to, gemma_window(from), [&](int64_t i) { return (i + 1) % pattern == 0; });
}

/// rope_theta and rope_scaling of the layers with full attention; transformers reads no other form of
/// rope_parameters than one with the kinds of layers.
void read_gemma3_rope(Reader& from, GptConfig& to) {
  if (const nlohmann::json* const flat = from.find("rope_parameters"); flat != nullptr && !flat->empty())
    from.refuse(
        "rope_parameters",
        "expected a map of full_attention and sliding_attention; transformers ignores any other in Gemma 3");
  const nlohmann::json* const scaling = from.find("rope_scaling");
  if (scaling != nullptr && scaling->is_object() && !scaling->contains("rope_type") &&
      scaling->value("type", nlohmann::json("default")) != "default")
    from.refuse("rope_scaling", "transformers ignores the key type in Gemma 3; write rope_type instead");
  read_rope(from, to, 1e6);
}

/// The rotary base and scaling of one kind of layer.
void read_gemma3_kind(Reader& kinds, GptConfig& to, const std::string& kind) {
  const nlohmann::json* const found = kinds.find(kind);
  if (found == nullptr) return;
  if (!found->is_object()) kinds.refuse(kind, "expected a map");
  Reader inner = kinds.inner(kind, *found);
  const bool full = kind == "full_attention";
  double& base = full ? to.rotary_base : to.rotary_local_base;
  if (found->contains("rope_theta"))
    base = inner.number("rope_theta", base, full ? "rotary_base" : "rotary_local_base");
  if (full) {
    read_scaling(inner, to, inner.text("rope_type", "default"));
  } else {
    inner.only("rope_type", "default");
  }
  inner.finish({});
}

/// rope_parameters with a map for each kind of layer, as transformers 5 writes them.
void read_gemma3_kinds(Reader& from, GptConfig& to, const nlohmann::json& both) {
  to.rotary_base = from.number("rope_theta", 1e6, "rotary_base");
  if (const nlohmann::json* const scaling = from.find("rope_scaling"); scaling != nullptr) {
    const nlohmann::json full = both.value("full_attention", nlohmann::json());
    nlohmann::json updated = full;  // as transformers does
    if (full.is_object() && scaling->is_object()) updated.update(*scaling);
    if (!full.is_object() || !scaling->is_object() || updated != full)
      from.refuse("rope_scaling", "differs from rope_parameters.full_attention; remove one of them");
  }
  Reader kinds = from.inner("rope_parameters", both);
  for (const char* const kind : {"full_attention", "sliding_attention"}) read_gemma3_kind(kinds, to, kind);
  kinds.finish({});
  if (to.rotary_scaling.kind == "none") to.rotary_scaling = {};
}

void read_gemma3(Reader& from, GptConfig& to) {
  read_gemma_common(from, to, "hidden_activation");
  to.qk_norm = true;
  read_gemma_scores(from, to, 0);
  // transformers/models/gemma3/modeling_gemma3.py stores the number but does not use it.
  if (from.find("attn_logit_softcapping") != nullptr)
    from.refuse("attn_logit_softcapping",
                "transformers does not apply it in Gemma 3; only null is supported");
  read_gemma3_windows(from, to);
  to.rotary_local_base = from.number("rope_local_base_freq", 10000.0, "rotary_local_base");
  const nlohmann::json* const both = from.find("rope_parameters");
  if (both != nullptr && (both->contains("full_attention") || both->contains("sliding_attention"))) {
    read_gemma3_kinds(from, to, *both);
  } else {
    read_gemma3_rope(from, to);
  }
}

void write_gemma3(const GptConfig& from, Json& to) {
  write_gemma_scores(from, to);
  const double local = from.rotary_local_base > 0 ? from.rotary_local_base : from.rotary_base;
  Json full = scaling_json(from.rotary_scaling);
  full["rope_theta"] = from.rotary_base;
  to["rope_local_base_freq"] = local;
  to["rope_parameters"] = {{"full_attention", full},
                           {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", local}}}};
}

void read_granite(Reader& from, GptConfig& to) {
  read_llama(from, to);
  to.embedding_scale = from.number("embedding_multiplier", 1.0, "embedding_scale");
  to.residual_scale = from.number("residual_multiplier", 1.0, "residual_scale");
  to.attention.scale = from.number("attention_multiplier", 1.0, "attention.scale");
  to.logit_scale = 1 / from.number("logits_scaling", 1.0, "logit_scale");
}

void write_granite(const GptConfig& from, Json& to) {
  write_llama(from, to);
  if (from.head_dim * from.heads == from.width) to.erase("head_dim");
  to["embedding_multiplier"] = from.embedding_scale;
  to["residual_multiplier"] = from.residual_scale;
  to["attention_multiplier"] =
      from.attention.scale > 0 ? from.attention.scale : 1 / std::sqrt(double(from.head_dim));
  to["logits_scaling"] = 1 / from.logit_scale;
}

}  // namespace

const std::vector<Family>& families() {
  static const std::vector<Family> table{
      {"gpt2", "GPT2LMHeadModel", {"GPT2Model"}, read_gpt2, write_gpt2},
      {"llama", "LlamaForCausalLM", {"LlamaModel"}, read_llama, write_llama},
      {"mistral", "MistralForCausalLM", {"MistralModel"}, read_mistral, write_mistral},
      {"qwen2", "Qwen2ForCausalLM", {"Qwen2Model"}, read_qwen2, write_qwen2},
      {"qwen3", "Qwen3ForCausalLM", {"Qwen3Model"}, read_qwen3, write_qwen3},
      {"gemma", "GemmaForCausalLM", {"GemmaModel"}, read_gemma, write_gemma},
      {"gemma2", "Gemma2ForCausalLM", {"Gemma2Model"}, read_gemma2, write_gemma2},
      {"gemma3_text", "Gemma3ForCausalLM", {"Gemma3TextModel"}, read_gemma3, write_gemma3},
      {"granite", "GraniteForCausalLM", {"GraniteModel"}, read_granite, write_granite},
      // Mistral with packed projections: exported as that.
      {"phi3", "Phi3ForCausalLM", {"Phi3Model"}, read_phi3, nullptr},
  };
  return table;
}

}  // namespace tutti::hugging_face
