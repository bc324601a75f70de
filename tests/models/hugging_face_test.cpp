#include <tests/models/hugging_face_configs.h>
#include <tests/temporary_directory.h>

#include <tutti/core/config/run_file.h>
#include <tutti/models/external_names.h>
#include <tutti/models/hugging_face/config.h>

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

namespace tutti {
namespace {

using test::difference;
using test::kGpt2;
using test::kLlama;
using test::parse_error;
using test::tiny;
using test::tiny_llama;
using test::with;

class HuggingFaceTest : public test::RandomTest {};

TEST_F(HuggingFaceTest, EndTokensComeFromTheGenerationConfig) {
  const TemporaryDirectory folder;
  const auto put = [&](const char* name, std::string_view text) { std::ofstream(folder / name) << text; };
  const auto ends = [&] { return hugging_face_config_of(folder / ".")->end_tokens; };
  put("config.json", kLlama);
  EXPECT_EQ(ends(), (std::vector<int64_t>{2, 3}));
  put("generation_config.json", R"({"do_sample": true})");
  EXPECT_EQ(ends(), (std::vector<int64_t>{2, 3}));
  put("generation_config.json", R"({"eos_token_id": [5, 7, 9]})");
  EXPECT_EQ(ends(), (std::vector<int64_t>{5, 7, 9}));
  put("generation_config.json", R"({"eos_token_id": 5})");
  EXPECT_EQ(ends(), (std::vector<int64_t>{5}));
  for (const char* const bad : {R"({"eos_token_id": "</s>"})", R"({"eos_token_id": [1.5]})", "[]", "{"}) {
    put("generation_config.json", bad);
    EXPECT_THROW((void)ends(), Error) << bad;
  }
}

TEST_F(HuggingFaceTest, ConfigsOfBothVersionsAreRead) {
  const HuggingFaceConfig config = parse_hugging_face_config(kLlama, "config.json");
  EXPECT_EQ(config.gpt.width, 24);
  EXPECT_EQ(config.gpt.head_dim, 6);
  EXPECT_EQ(config.gpt.kv_heads, 2);
  EXPECT_EQ(config.gpt.context, 64);
  EXPECT_EQ(config.end_tokens, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(config.begin_token, 1);
  const std::string scaling = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32})";
  const GptConfig old = parse_hugging_face_config(with(kLlama, "rope_scaling", scaling), "config.json").gpt;
  EXPECT_EQ(old.rotary_scaling.kind, "llama3");
  EXPECT_EQ(old.rotary_scaling.original_context, 32);
  std::string parameters = scaling;
  parameters.insert(1, R"("rope_theta": 500000.0, )");
  const GptConfig fresh =
      parse_hugging_face_config(with(kLlama, "rope_parameters", parameters), "config.json").gpt;
  EXPECT_EQ(fresh.rotary_base, 500000);
  EXPECT_EQ(fresh.rotary_scaling.factor, 8);
  const GptConfig gpt2 = parse_hugging_face_config(kGpt2, "config.json").gpt;
  EXPECT_EQ(gpt2.hidden, 60);
  EXPECT_TRUE(gpt2.tied);
}

TEST_F(HuggingFaceTest, UnsupportedKeysAndValuesAreRefused) {
  struct Case {
    std::string text, key, value;
  };
  const std::string plain = with(kLlama, "architectures", "null");
  const auto of = [&](const std::string& type) { return with(plain, "model_type", "\"" + type + "\""); };
  const std::string mistral = of("mistral"), qwen2 = of("qwen2"), granite = of("granite");
  const std::string gemma = of("gemma"), gemma2 = of("gemma2"),
                    gemma3 = with(of("gemma3_text"), "hidden_act", "null");
  const std::string sliding = R"(["full_attention", "sliding_attention"])";
  const std::string linear = R"({"rope_type": "linear", "factor": 2.0})";
  const Case cases[] = {
      {with(kLlama, "model_type", "\"mamba\""), "model_type", "mamba"},
      {with(kLlama, "architectures", "[\"LlamaForSequenceClassification\"]"), "architectures", "Sequence"},
      {with(kLlama, "rope_scaling", R"({"rope_type": "longrope", "factor": 2})"), "rope_type", "longrope"},
      {with(kLlama, "rope_scaling", R"({"type": "su"})"), "rope_scaling.type", "su"},
      {with(kLlama, "rope_scaling", R"({"rope_type": "linear"})"), "rope_scaling.factor", "absent"},
      {with(kLlama, "rope_scaling", R"({"rope_type": "yarn", "factor": 2, "mscale": 0.7})"), "mscale", "0.7"},
      {with(kLlama, "rope_scaling", R"({"rope_type": "yarn", "factor": 2, "truncate": false})"), "truncate",
       "false"},
      {with(kLlama, "rope_scaling", R"({"rope_type": "linear", "factor": 2, "wave": 1})"), "wave", "1"},
      {with(kLlama, "partial_rotary_factor", "0.5"), "partial_rotary_factor", "0.5"},
      {with(kLlama, "hidden_act", "\"relu2\""), "hidden_act", "relu2"},
      {with(kLlama, "use_parallel_residual", "true"), "use_parallel_residual", "true"},
      {with(kLlama, "quantization_config", R"({"bits": 4})"), "quantization_config", "bits"},
      {with(kLlama, "hidden_size", "\"many\""), "hidden_size", "many"},
      {with(kLlama, "hidden_size", "-4"), "hidden_size", "-4"},
      {with(kLlama, "num_hidden_layers", "100000000"), "num_hidden_layers", "100000000"},
      {with(kLlama, "rms_norm_eps", "null"), "", ""},  // the default
      {with(kGpt2, "add_cross_attention", "true"), "add_cross_attention", "true"},
      {with(mistral, "layer_types", R"(["full_attention", "sliding_attention"])"), "layer_types", "full"},
      {with(mistral, "sliding_window", "0"), "sliding_window", "0"},
      {with(with(qwen2, "use_sliding_window", "false"), "layer_types", sliding), "layer_types", "sliding"},
      {with(gemma2, "sliding_window", "null"), "sliding_window", "null"},
      {with(with(qwen2, "use_sliding_window", "false"), "sliding_window", "0"), "", ""},
      {with(qwen2, "max_window_layers", "0"), "", ""},
      // 0 is "automatic" or "none" in a run file, not in transformers.
      {with(granite, "attention_multiplier", "0.0"), "attention_multiplier", "0.0"},
      {with(gemma2, "attn_logit_softcapping", "0"), "attn_logit_softcapping", "0"},
      {with(gemma2, "final_logit_softcapping", "0.0"), "final_logit_softcapping", "0.0"},
      {with(gemma2, "attn_logit_softcapping", "null"), "", ""},
      {with(gemma3, "rope_local_base_freq", "0.0"), "rope_local_base_freq", "0.0"},
      {with(kLlama, "head_dim", "0"), "head_dim", "0"},
      {with(kLlama, "num_key_value_heads", "0"), "num_key_value_heads", "0"},
      {with(kLlama, "rope_theta", "0"), "rope_theta", "0"},
      {with(kGpt2, "n_inner", "0"), "n_inner", "0"},
      {with(kLlama, "rope_scaling", R"({"rope_type": "yarn", "factor": 2, "attention_factor": 0})"),
       "attention_factor", "0"},
      // Two keys for one setting, which agree or disagree.
      {with(with(kLlama, "rope_scaling", linear), "rope_parameters", R"({"rope_type": "default"})"),
       "rope_parameters", "default"},
      {with(with(kLlama, "rope_scaling", linear), "rope_parameters",
            R"({"rope_type": "linear", "factor": 2, "rope_theta": 5e5})"),
       "rope_parameters", "differs"},
      {with(with(kLlama, "rope_scaling", linear), "rope_parameters",
            R"({"rope_type": "linear", "factor": 2.0, "rope_theta": 10000})"),
       "", ""},
      {with(with(gemma3, "rope_scaling", linear), "rope_parameters",
            R"({"full_attention": {"rope_type": "default", "rope_theta": 1e6}})"),
       "rope_scaling", "linear"},
      // Keys that transformers ignores in Gemma 3.
      {with(gemma3, "attn_logit_softcapping", "50.0"), "attn_logit_softcapping", "50.0"},
      {with(gemma3, "attn_logit_softcapping", "null"), "", ""},
      {with(gemma3, "final_logit_softcapping", "30.0"), "", ""},
      {with(gemma3, "_sliding_window_pattern", "2"), "_sliding_window_pattern", "2"},
      {with(with(gemma3, "_sliding_window_pattern", "2"), "layer_types", sliding), "", ""},
      {with(with(gemma3, "_sliding_window_pattern", "2"), "sliding_window_pattern", "2"), "", ""},
      {with(gemma3, "_sliding_window_pattern", "6"), "", ""},
      {with(gemma3, "rope_parameters", linear), "rope_parameters", "linear"},
      {with(gemma3, "rope_parameters", R"({"sliding_attention": {"rope_type": "default"}})"), "", ""},
      {with(with(gemma3, "rope_parameters", R"({"sliding_attention": {"rope_type": "default"}})"),
            "rope_scaling", linear),
       "rope_scaling", "linear"},
      {with(gemma3, "rope_scaling", R"({"type": "linear", "factor": 4.0})"), "rope_scaling", "linear"},
      {with(gemma3, "rope_scaling", R"({"factor": 8.0, "rope_type": "linear"})"), "", ""},
      {with(with(kLlama, "original_max_position_embeddings", "32"), "rope_scaling",
            R"({"rope_type": "yarn", "factor": 2, "original_max_position_embeddings": 16})"),
       "original_max_position_embeddings", "16"},
      {with(with(gemma, "hidden_act", "\"gelu_pytorch_tanh\""), "hidden_activation", "\"gelu\""),
       "hidden_activation", "gelu"},
      {with(with(gemma, "hidden_act", "null"), "hidden_activation", "\"gelu\""), "hidden_activation", "gelu"},
      {with(with(gemma, "hidden_act", "\"gelu\""), "hidden_activation", "\"gelu_pytorch_tanh\""), "", ""},
  };
  for (const Case& c : cases) {
    const std::string error = parse_error(c.text);
    if (c.key.empty()) {
      EXPECT_EQ(error, "") << c.text;
      continue;
    }
    EXPECT_NE(error.find("a/config.json"), std::string::npos) << c.text;
    EXPECT_NE(error.find(c.key), std::string::npos) << error;
    EXPECT_NE(error.find(c.value), std::string::npos) << error;
  }
  for (const char* text : {"", "[]", "{}", "{\"model_type\": 3}", "{\"model_type\": \"llama\"}", "{"}) {
    EXPECT_NE(parse_error(text), "") << text;
  }
}

// As google/gemma-3-1b-it and its fine-tuned relatives have them.
TEST_F(HuggingFaceTest, PublishedConfigsOfGemma3AreRead) {
  std::string old = with(with(kLlama, "architectures", "null"), "model_type", "\"gemma3_text\"");
  for (const auto& [key, value] :
       {std::pair{"hidden_act", "null"}, std::pair{"num_hidden_layers", "7"},
        std::pair{"sliding_window", "512"}, std::pair{"sliding_window_pattern", "6"},
        std::pair{"rope_local_base_freq", "10000.0"}, std::pair{"rope_theta", "1000000.0"},
        std::pair{"rope_scaling", R"({"factor": 8.0, "rope_type": "linear"})"}})
    old = with(old, key, value);
  const GptConfig gpt = parse_hugging_face_config(old, "config.json").gpt;
  EXPECT_EQ(gpt.attention.full_layers, (std::vector<int64_t>{5}));
  EXPECT_EQ(gpt.attention.window, 512);
  EXPECT_EQ(gpt.rotary_base, 1e6);
  EXPECT_EQ(gpt.rotary_local_base, 1e4);
  EXPECT_EQ(gpt.rotary_scaling.kind, "linear");
  EXPECT_EQ(gpt.rotary_scaling.factor, 8);
}

TEST_F(HuggingFaceTest, EveryKeyThatChangesTheFunctionIsCompared) {
  EXPECT_EQ(difference(tiny_llama(), kLlama), "");
  struct Case {
    std::string key, value, run_key;
  };
  const Case cases[] = {
      {"num_attention_heads", "2", "heads"},
      {"num_key_value_heads", "4", "kv_heads"},
      {"head_dim", "12", "head_dim"},
      {"rope_theta", "500000.0", "rotary_base"},
      {"rms_norm_eps", "1e-5", "norm_eps"},
      {"hidden_act", "\"gelu\"", "activation"},
      {"tie_word_embeddings", "true", "tied"},
      {"attention_bias", "true", "qkv_bias"},
      {"mlp_bias", "true", "mlp_bias"},
      {"vocab_size", "29", "vocabulary"},
      {"intermediate_size", "14", "hidden"},
      {"num_hidden_layers", "3", "layers"},
      {"max_position_embeddings", "6", "context"},
      {"rope_scaling", R"({"rope_type": "linear", "factor": 2.0})", "rotary_scaling.kind"},
      {"rope_scaling", R"({"rope_type": "yarn", "factor": 2.0})", "rotary_scaling.factor"},
  };
  for (const Case& c : cases) {
    const std::string error = difference(tiny_llama(), with(kLlama, c.key, c.value));
    EXPECT_NE(error.find("set model." + c.run_key + ": "), std::string::npos) << c.key << ": " << error;
    EXPECT_NE(error.find(c.key), std::string::npos) << error;
  }
  // Only keys of the kind are named.
  const std::string llama3 = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32})";
  const std::string scaled = difference(tiny_llama(), with(kLlama, "rope_scaling", llama3));
  EXPECT_NE(scaled.find("set model.rotary_scaling.kind: llama3"), std::string::npos) << scaled;
  EXPECT_EQ(scaled.find("beta_fast"), std::string::npos) << scaled;
  // Dynamic scaling begins beyond the model's context, and training stays within.
  EXPECT_EQ(
      difference(tiny_llama(), with(kLlama, "rope_scaling", R"({"rope_type": "dynamic", "factor": 2.0})")),
      "");
  // A window at least as long as the sequences has no effect.
  const std::string mistral = with(with(kLlama, "model_type", "\"mistral\""), "architectures", "null");
  EXPECT_EQ(difference(tiny_llama(), with(mistral, "sliding_window", "7")), "");
  EXPECT_EQ(difference(tiny_llama(), mistral), "");  // 4096 where the key is absent
  EXPECT_NE(
      difference(tiny_llama(), with(mistral, "sliding_window", "6")).find("set model.attention.window: 6"),
      std::string::npos);
  GptConfig gpt2 = tiny("gpt2");
  EXPECT_EQ(difference(gpt2, kGpt2), "");
  EXPECT_NE(difference(gpt2, with(kGpt2, "scale_attn_by_inverse_layer_idx", "true"))
                .find("set model.attention.scale_by_layer: true"),
            std::string::npos);
  EXPECT_NE(difference(gpt2, with(kGpt2, "scale_attn_weights", "false")).find("attention.scale"),
            std::string::npos);
  EXPECT_NE(
      difference(gpt2, with(kGpt2, "activation_function", "\"gelu\"")).find("set model.activation: gelu"),
      std::string::npos);
  EXPECT_NE(difference(gpt2, with(kGpt2, "n_positions", "8")).find("set model.context: 8"),
            std::string::npos);
  EXPECT_NE(difference(tiny_llama(), kGpt2).find("set model.norm: layer"), std::string::npos);
}

TEST_F(HuggingFaceTest, ExportsReadBackAsTheSameModel) {
  for (const char* name : {"gpt2", "llama"}) {
    const GptConfig config = tiny(name);
    const std::string json = hugging_face_config(config, {.dtype = DType::kBFloat16, .begin_token = 4});
    const HuggingFaceConfig back = parse_hugging_face_config(json, name);
    EXPECT_EQ(gpt_differences(config, back.gpt).size(), 0U) << json;
    EXPECT_EQ(back.gpt.context, config.context);
    EXPECT_EQ(back.begin_token, 4);
    EXPECT_NE(json.find("bfloat16"), std::string::npos);
  }
  GptConfig plain = tiny("gpt2");
  plain.bias = false;
  EXPECT_FALSE(parse_hugging_face_config(hugging_face_config(plain, {}), "x").gpt.bias);
  struct Case {
    std::string base;
    std::vector<std::string> sets;
    std::string model_type;
  };
  const Case cases[] = {
      {"llama", {"attention.window=3"}, "mistral"},
      {"llama", {"qkv_bias=true"}, "qwen2"},
      {"llama", {"qkv_bias=true", "attention.window=3", "attention.full_layers=[0]"}, "qwen2"},
      {"llama", {"qk_norm=true"}, "qwen3"},
      {"llama", {"residual_scale=0.5"}, "granite"},
      {"llama", {"bias=true"}, "llama"},
      {"llama", {"norm_offset=true", "embedding_scale=4.898979485566356"}, "gemma"},
      {"llama", {"norm_offset=true", "embedding_scale=4.898979485566356", "activation=geglu"}, "gemma"},
      {"llama",
       {"norm_offset=true", "embedding_scale=4.898979485566356", "post_norms=true", "logit_softcap=3",
        "tied=true"},
       "gemma2"},
      {"llama",
       {"norm_offset=true", "embedding_scale=4.898979485566356", "post_norms=true", "qk_norm=true",
        "attention.window=2", "attention.full_layers=[1]", "rotary_local_base=50"},
       "gemma3_text"},
  };
  for (const Case& c : cases) {
    GptConfig config = tiny(c.base);
    for (const std::string& set : c.sets) apply_set(set, config);
    const HuggingFaceConfig back = parse_hugging_face_config(hugging_face_config(config, {}), c.model_type);
    EXPECT_EQ(back.model_type, c.model_type);
    EXPECT_EQ(gpt_differences(config, back.gpt).size(), 0U);
  }
}

// transformers' Gemma 2 and 3 make the mask of a window in any case, and refuse null.
TEST_F(HuggingFaceTest, GemmaWithoutWindowsIsExportedWithOneOfTheContext) {
  for (const bool qk_norm : {false, true}) {
    GptConfig config = tiny("llama");
    config.norm_offset = config.post_norms = true;
    config.embedding_scale = std::sqrt(static_cast<double>(config.width));
    config.qk_norm = qk_norm;
    const std::string json = hugging_face_config(config, {});
    EXPECT_NE(json.find(fmt::format("\"sliding_window\": {}", config.context)), std::string::npos) << json;
    const HuggingFaceConfig back = parse_hugging_face_config(json, "x");
    EXPECT_EQ(back.model_type, qk_norm ? "gemma3_text" : "gemma2");
    EXPECT_EQ(back.gpt.attention.window, 0);
  }
}

// transformers keeps attn_logit_softcapping of a Gemma 3 and computes scores without it.
TEST_F(HuggingFaceTest, Gemma3WithASoftCapOfScoresIsNotExported) {
  GptConfig config = tiny("llama");
  for (const char* const set :
       {"norm_offset=true", "embedding_scale=4.898979485566356", "post_norms=true", "qk_norm=true",
        "attention.window=2", "attention.full_layers=[1]", "rotary_local_base=50"})
    apply_set(set, config);
  EXPECT_NO_THROW((void)hugging_face_config(config, {}));
  config.attention.softcap = 0.3;
  try {
    (void)hugging_face_config(config, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("model.attention.softcap is 0.3, Gemma3ForCausalLM has 0"),
              std::string::npos)
        << error.what();
  }
}

TEST_F(HuggingFaceTest, FailedExportsNameTheKeys) {
  const auto error = [](const std::string& base, const std::string& set) -> std::string {
    GptConfig config = tiny(base);
    apply_set(set, config);
    try {
      (void)hugging_face_config(config, {});
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_NE(error("gpt2", "kv_heads=1").find("model.kv_heads is 1"), std::string::npos);
  EXPECT_NE(error("gpt2", "norm=rms").find("model.norm is rms"), std::string::npos);
  EXPECT_NE(error("llama", "activation=silu").find("model.activation is silu"), std::string::npos);
  EXPECT_NE(error("llama", "attention.softcap=3").find("model.attention.softcap is 3"), std::string::npos);
  EXPECT_NE(error("gpt2", "qkv_bias=false").find("model.qkv_bias is false"), std::string::npos);
}

}  // namespace
}  // namespace tutti
