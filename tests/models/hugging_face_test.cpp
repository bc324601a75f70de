#include <tests/models/tiny_models.h>
#include <tests/temporary_directory.h>

#include <tutti/core/config/run_file.h>
#include <tutti/models/external_names.h>
#include <tutti/models/hugging_face/config.h>

#include <gtest/gtest.h>

#include <fstream>

namespace tutti {
namespace {

const char* const kLlama =
    R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 24,
  "intermediate_size": 13, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "vocab_size": 23, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
  "rope_theta": 10000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16", "bos_token_id": 1,
  "eos_token_id": [2, 3], "transformers_version": "4.40.0", "pad_token_id": null})";

const char* const kGpt2 = R"({"model_type": "gpt2", "n_embd": 15, "n_layer": 2, "n_head": 3, "n_positions": 7,
  "n_ctx": 7, "vocab_size": 23, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
  "task_specific_params": {"text-generation": {"max_length": 50}}, "resid_pdrop": 0.1})";

/// The text with `"key": ...` added, or replaced where it is there.
std::string with(std::string text, const std::string& key, const std::string& value) {
  const std::string quoted = "\"" + key + "\":";
  if (const size_t at = text.find(quoted); at != std::string::npos) {
    const size_t end = text.find_first_of(",}", at);
    return text.replace(at, end - at, quoted + " " + value);
  }
  return text.insert(1, quoted + " " + value + ", ");
}

std::string parse_error(const std::string& text) {
  try {
    (void)parse_hugging_face_config(text, "a/config.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::string difference(const GptConfig& model, const std::string& text) {
  try {
    require_same_model(model, parse_hugging_face_config(text, "a/config.json"));
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

GptConfig tiny(const std::string& wanted) {
  for (const auto& [name, config] : test::tiny_models()) {
    if (name == wanted) return config.gpt;
  }
  fail("no model {}", wanted);
}

GptConfig tiny_llama() {
  GptConfig config = tiny("llama");
  config.norm_eps = 1e-6;
  return config;
}

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

TEST_F(HuggingFaceTest, ConfigsOfBothFormsAreRead) {
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

TEST_F(HuggingFaceTest, WhatIsNotSupportedIsRefusedByKeyAndValue) {
  struct Case {
    std::string text, key, value;
  };
  const std::string plain = with(kLlama, "architectures", "null");
  const auto of = [&](const std::string& type) { return with(plain, "model_type", "\"" + type + "\""); };
  const std::string mistral = of("mistral"), qwen2 = of("qwen2"), granite = of("granite");
  const std::string gemma = of("gemma"), gemma2 = of("gemma2"), gemma3 = of("gemma3_text");
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
      // Two keys that say the same, or not.
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
  // Only what the kind uses is named.
  const std::string llama3 = R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32})";
  const std::string scaled = difference(tiny_llama(), with(kLlama, "rope_scaling", llama3));
  EXPECT_NE(scaled.find("set model.rotary_scaling.kind: llama3"), std::string::npos) << scaled;
  EXPECT_EQ(scaled.find("beta_fast"), std::string::npos) << scaled;
  // Dynamic scaling begins beyond the model's context, and training stays within.
  EXPECT_EQ(
      difference(tiny_llama(), with(kLlama, "rope_scaling", R"({"rope_type": "dynamic", "factor": 2.0})")),
      "");
  // A window that is no shorter than the sequences hides nothing.
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

TEST_F(HuggingFaceTest, ExportsOfMixturesNameTheKeys) {
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

/// A folder with weights of a model and a config.json.
struct Folder {
  TemporaryDirectory place;
  void write(const test::LiveModel& model, const std::string& config, const std::string& prefix = "",
             const std::vector<NamedTensor>& more = {}) const {
    std::vector<std::pair<std::string, Tensor>> tensors;
    for (const NamedTensor& t : export_tensors(model.task->model(), model.groups, test::stream())) {
      tensors.emplace_back(t.name.starts_with(prefix) ? t.name.substr(prefix.size()) : t.name, t.tensor);
    }
    for (const NamedTensor& t : more) tensors.emplace_back(t.name, t.tensor);
    write_safetensors(place / "model.safetensors", tensors);
    if (!config.empty()) std::ofstream(place / "config.json") << config;
  }
  [[nodiscard]] std::string load(const test::LiveModel& model, bool whole = true) const {
    try {
      load_weights(
          model.task->model(), model.groups,
          ModelFiles::open(whole ? place.path() : std::filesystem::path(place / "model.safetensors")),
          test::stream());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

ModelConfig model_of(const GptConfig& gpt) {
  ModelConfig config{.kind = "gpt"};
  config.gpt = gpt;
  return config;
}

void expect_equal_weights(const test::LiveModel& a, const test::LiveModel& b) {
  for (size_t i = 0; i < a.parameters().size(); ++i) {
    test::expect_same_bits(a.parameters()[i]->value, b.parameters()[i]->value, a.parameters()[i]->name);
  }
}

TEST_F(HuggingFaceTest, TheConfigBesideWeightsDecides) {
  const test::LiveModel from(model_of(tiny_llama()), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny_llama()), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, kLlama);
  EXPECT_EQ(folder.load(to), "");
  expect_equal_weights(from, to);
  EXPECT_EQ(folder.load(to, false), "");
  folder.write(from, with(kLlama, "rope_theta", "5e5"));
  for (const bool whole : {true, false}) {
    EXPECT_NE(folder.load(to, whole).find("set model.rotary_base: 500000"), std::string::npos);
  }
  // Anybody may have a config.json beside a file; in a folder it has to be the model's.
  folder.write(from, R"({"port": 80})");
  EXPECT_EQ(folder.load(to, false), "");
  EXPECT_NE(folder.load(to).find("model_type"), std::string::npos);
}

TEST_F(HuggingFaceTest, FilesOfTheInnerModelLackAPrefix) {
  GptConfig tied = tiny_llama();
  tied.tied = true;
  for (const auto& [gpt, prefix] : {std::pair{tied, "model."}, std::pair{tiny("gpt2"), "transformer."}}) {
    const test::LiveModel from(model_of(gpt), DType::kFloat32, 1);
    const test::LiveModel to(model_of(gpt), DType::kFloat32, 2);
    Folder folder;
    folder.write(from, "", prefix);
    EXPECT_EQ(folder.load(to), "");
    expect_equal_weights(from, to);
  }
  // Of an untied model the head is missing.
  const test::LiveModel from(model_of(tied), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny_llama()), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, "", "model.");
  EXPECT_NE(folder.load(to).find("lm_head.weight: missing; set model.tied: true"), std::string::npos);
}

TEST_F(HuggingFaceTest, ATiedHeadIsTheEmbedding) {
  GptConfig tied = tiny_llama();
  tied.tied = true;
  const test::LiveModel from(model_of(tied), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tied), DType::kFloat32, 2);
  Folder folder;
  const Tensor embedding = from.parameters().front()->value;
  folder.write(from, "", "", {{"lm_head.weight", embedding.clone(test::stream())}});
  EXPECT_EQ(folder.load(to), "");
  Tensor other = embedding.clone(test::stream());
  other.span<float>().back() += 1e-3F;
  folder.write(from, "", "", {{"lm_head.weight", other}});
  EXPECT_NE(folder.load(to).find("set model.tied: false"), std::string::npos);
  folder.write(from, "", "", {{"lm_head.weight", random.normal({22, 24})}});
  EXPECT_NE(folder.load(to).find("lm_head.weight"), std::string::npos);
  // What counts is the values, not the dtypes.
  copy(embedding, embedding.to(DType::kBFloat16, test::stream()), test::stream());
  folder.write(from, "", "", {{"lm_head.weight", embedding.to(DType::kBFloat16, test::stream())}});
  EXPECT_EQ(folder.load(to), "");
  folder.write(from, "", "", {{"lm_head.weight", random.integers({23, 24}, 0, 3)}});
  EXPECT_NE(folder.load(to).find("set model.tied: false"), std::string::npos);
}

TEST_F(HuggingFaceTest, BuffersOfAnyTypeArePassedOver) {
  const test::LiveModel from(model_of(tiny("gpt2")), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny("gpt2")), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, "", "");
  // A BOOL tensor, which Tensor does not have: written by hand.
  std::vector<SafetensorsWriter::Spec> specs;
  const SafetensorsFile file = SafetensorsFile::open(folder.place / "model.safetensors");
  for (const SafetensorsEntry& e : file.entries()) specs.push_back({e.name, e.dtype, e.shape});
  specs.push_back({"transformer.h.0.attn.bias", "BOOL", {1, 1, 7, 7}});
  specs.push_back({"h.1.attn.masked_bias", "U16", {3}});
  const std::string path = folder.place / "with_buffers.safetensors";
  SafetensorsWriter writer(path, specs);
  for (const SafetensorsEntry& e : writer.order()) {
    if (file.find(e.name) != nullptr) {
      writer.write(file.bytes(*file.find(e.name)));
    } else {
      writer.write(std::vector<std::byte>(static_cast<size_t>(e.bytes())));
    }
  }
  writer.finish();
  load_weights(to.task->model(), to.groups, ModelFiles::open(path), test::stream());
  expect_equal_weights(from, to);
}

TEST_F(HuggingFaceTest, AGpt2WithoutBiasesGoesOutWithZeros) {
  GptConfig gpt = tiny("gpt2");
  gpt.bias = false;
  const test::LiveModel from(model_of(gpt), DType::kFloat32, 1);
  const test::LiveModel to(model_of(gpt), DType::kFloat32, 2);
  const auto tensors = export_tensors(from.task->model(), from.groups, test::stream());
  const auto biased = std::find_if(tensors.begin(), tensors.end(), [](const NamedTensor& t) {
    return t.name == "transformer.h.1.mlp.c_fc.bias" && t.tensor.shape() == Shape{60};
  });
  ASSERT_NE(biased, tensors.end());
  Folder folder;
  folder.write(from, hugging_face_config(gpt, {}));
  EXPECT_EQ(folder.load(to), "");
  expect_equal_weights(from, to);
  biased->tensor.span<float>()[3] = 1;
  try {
    import_tensors(to.task->model(), to.groups, tensors, test::stream());
    ADD_FAILURE() << "a bias was dropped";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("set model.bias: true"), std::string::npos) << error.what();
  }
}

TEST_F(HuggingFaceTest, HeadersTellWhetherWeightsFit) {
  GptConfig tied = tiny_llama();
  tied.tied = true;
  const test::LiveModel from(model_of(tied), DType::kFloat32, 1);
  const auto error = [](const GptConfig& gpt, const ModelFiles& files) -> std::string {
    try {
      require_weights_fit(make_task(model_of(gpt))->model(), files);  // without storage
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  Folder folder;
  folder.write(from, "");
  EXPECT_EQ(error(tied, ModelFiles::open(folder.place.path())), "");
  EXPECT_NE(error(tiny_llama(), ModelFiles::open(folder.place.path())).find("lm_head.weight: missing"),
            std::string::npos);
  folder.write(from, "", "", {{"lm_head.weight", random.normal({23, 24})}});
  EXPECT_NE(error(tied, ModelFiles::open(folder.place.path())).find("set model.tied: false"),
            std::string::npos);
  // A dtype that Tensor does not have.
  std::vector<SafetensorsWriter::Spec> specs;
  int64_t bytes = 0;
  for (const NamedTensor& t : export_tensors(from.task->model(), from.groups, test::stream())) {
    specs.push_back({t.name, "F8_E4M3", t.tensor.shape()});
    bytes += t.tensor.numel();
  }
  const std::string path = folder.place / "fp8.safetensors";
  SafetensorsWriter writer(path, specs);
  writer.write(std::vector<std::byte>(static_cast<size_t>(bytes)));
  writer.finish();
  const std::string text = error(tied, ModelFiles::open(path));
  EXPECT_NE(text.find("fp8.safetensors"), std::string::npos) << text;
  EXPECT_NE(text.find("model.norm.weight: has dtype F8_E4M3"), std::string::npos) << text;
  folder.write(from, kLlama);
  EXPECT_NE(error(tied, ModelFiles::open(folder.place.path())).find("tie_word_embeddings: false"),
            std::string::npos);
}

TEST_F(HuggingFaceTest, HintsNameTheKey) {
  GptConfig biased = tiny_llama();
  biased.qkv_bias = biased.qk_norm = true;
  const test::LiveModel from(model_of(biased), DType::kFloat32, 1);
  const test::LiveModel to(model_of(tiny_llama()), DType::kFloat32, 2);
  Folder folder;
  folder.write(from, "");
  const std::string error = folder.load(to);
  EXPECT_NE(error.find("set model.qkv_bias: true"), std::string::npos) << error;
  EXPECT_NE(error.find("set model.qk_norm: true"), std::string::npos) << error;
}

TEST_F(HuggingFaceTest, PicklesAreNamed) {
  const TemporaryDirectory folder;
  std::ofstream(folder / "pytorch_model.bin") << "PK\x03\x04 and more";
  for (const std::filesystem::path& path : {folder.path(), folder / "pytorch_model.bin"}) {
    try {
      (void)ModelFiles::open(path);
      ADD_FAILURE() << path;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("pickle"), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace tutti
