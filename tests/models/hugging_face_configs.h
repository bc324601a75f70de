// Texts of config.json and matching models.
#pragma once

#include <tests/models/tiny_models.h>

#include <tutti/core/error.h>
#include <tutti/models/hugging_face/config.h>

#include <string>

namespace tutti::test {

inline constexpr const char* kLlama =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 24,
  "intermediate_size": 13, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "vocab_size": 23, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
  "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 1,
  "eos_token_id": [2, 3], "transformers_version": "4.40.0", "pad_token_id": null})";

inline constexpr const char* kGpt2 =
    R"({"model_type": "gpt2", "n_embd": 15, "n_layer": 2, "n_head": 3, "n_positions": 7,
  "n_ctx": 7, "vocab_size": 23, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
  "task_specific_params": {"text-generation": {"max_length": 50}}, "resid_pdrop": 0.1})";

/// The text with `"key": ...` added or replaced.
inline std::string with(std::string text, const std::string& key, const std::string& value) {
  const std::string quoted = "\"" + key + "\":";
  if (const size_t at = text.find(quoted); at != std::string::npos) {
    const size_t end = text.find_first_of(",}", at);
    return text.replace(at, end - at, quoted + " " + value);
  }
  return text.insert(1, quoted + " " + value + ", ");
}

inline std::string parse_error(const std::string& text) {
  try {
    (void)parse_hugging_face_config(text, "a/config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline std::string difference(const GptConfig& model, const std::string& text) {
  try {
    require_same_model(model, parse_hugging_face_config(text, "a/config.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline GptConfig tiny(const std::string& wanted) {
  for (const auto& [name, config] : test::tiny_models()) {
    if (name == wanted) return config.gpt;
  }
  fail("no model {}", wanted);
}

inline GptConfig tiny_llama() {
  GptConfig config = tiny("llama");
  config.norm_eps = 1e-6;
  return config;
}

}  // namespace tutti::test
