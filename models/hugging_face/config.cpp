#include <tutti/models/hugging_face/config.h>

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/config/nearest.h"
#include "core/config/value_text.h"
#include "core/io/json.h"
#include "models/hugging_face/reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using hugging_face::families;
using hugging_face::Family;
using hugging_face::Json;
using hugging_face::Reader;

constexpr int64_t kMaxJsonBytes = int64_t{16} << 20;

/// Keys that do not change what a model computes: tokens, training, generation, other heads, bookkeeping.
const std::set<std::string, std::less<>>& harmless_keys() {
  static const std::set<std::string, std::less<>> keys{"_attn_implementation",
                                                       "_attn_implementation_autoset",
                                                       "_commit_hash",
                                                       "_name_or_path",
                                                       "attention_dropout",
                                                       "attn_implementation",
                                                       "attn_pdrop",
                                                       "auto_map",
                                                       "bad_words_ids",
                                                       "begin_suppress_tokens",
                                                       "bos_token_id",
                                                       "cache_implementation",
                                                       "chunk_size_feed_forward",
                                                       "decoder_start_token_id",
                                                       "diversity_penalty",
                                                       "do_sample",
                                                       "dtype",
                                                       "early_stopping",
                                                       "embd_pdrop",
                                                       "embedding_dropout",
                                                       "encoder_no_repeat_ngram_size",
                                                       "eos_token_id",
                                                       "exponential_decay_length_penalty",
                                                       "finetuning_task",
                                                       "forced_bos_token_id",
                                                       "forced_eos_token_id",
                                                       "gradient_checkpointing",
                                                       "hidden_dropout",
                                                       "id2label",
                                                       "initializer_range",
                                                       "is_llama_config",
                                                       "label2id",
                                                       "length_penalty",
                                                       "max_length",
                                                       "min_length",
                                                       "n_ctx",
                                                       "name_or_path",
                                                       "no_repeat_ngram_size",
                                                       "num_beam_groups",
                                                       "num_beams",
                                                       "num_labels",
                                                       "num_return_sequences",
                                                       "output_attentions",
                                                       "output_hidden_states",
                                                       "output_scores",
                                                       "pad_token_id",
                                                       "prefix",
                                                       "pretraining_tp",
                                                       "problem_type",
                                                       "remove_invalid_values",
                                                       "reorder_and_upcast_attn",
                                                       "repetition_penalty",
                                                       "resid_pdrop",
                                                       "return_dict",
                                                       "return_dict_in_generate",
                                                       "sep_token_id",
                                                       "summary_activation",
                                                       "summary_first_dropout",
                                                       "summary_proj_to_labels",
                                                       "summary_type",
                                                       "summary_use_proj",
                                                       "suppress_tokens",
                                                       "task_specific_params",
                                                       "temperature",
                                                       "tf_legacy_loss",
                                                       "tokenizer_class",
                                                       "top_k",
                                                       "top_p",
                                                       "torch_dtype",
                                                       "torchscript",
                                                       "transformers.js_config",
                                                       "transformers_version",
                                                       "typical_p",
                                                       "unsloth_fixed",
                                                       "unsloth_version",
                                                       "use_bfloat16",
                                                       "use_cache"};
  return keys;
}

const Family* find_family(std::string_view model_type) {
  const auto found = std::ranges::find(families(), model_type, &Family::model_type);
  return found == families().end() ? nullptr : &*found;
}

void check_architectures(Reader& from, const Family& family) {
  const nlohmann::json* const found = from.find("architectures");
  if (found == nullptr || (found->is_array() && found->empty())) return;
  for (const nlohmann::json& entry : *found) {
    if (!entry.is_string()) continue;
    const std::string name = entry.get<std::string>();
    if (name == family.class_name || std::ranges::count(family.other_classes, name) > 0) return;
  }
  from.refuse("architectures", fmt::format("expected {}", family.class_name));
}

/// One token or a list of them; empty if it is neither.
std::optional<std::vector<int64_t>> token_ids(const nlohmann::json& found) {
  std::vector<int64_t> ids;
  for (const nlohmann::json& id : found.is_array() ? found : nlohmann::json::array({found})) {
    if (!id.is_number_integer()) return std::nullopt;
    ids.push_back(id.get<int64_t>());
  }
  return ids;
}

std::vector<int64_t> token_ids(Reader& from, const std::string& key) {
  const nlohmann::json* const found = from.find(key);
  if (found == nullptr) return {};
  const auto ids = token_ids(*found);
  if (!ids) from.refuse(key, "expected a token id, or a list of them");
  return *ids;
}

/// The eos_token_id of the generation_config.json in a directory, which takes precedence over config.json.
std::optional<std::vector<int64_t>> generation_end_tokens(const fs::path& directory) {
  const fs::path file = directory / "generation_config.json";
  std::error_code none;
  if (!fs::exists(file, none)) return std::nullopt;
  const nlohmann::json json = nlohmann::json::parse(read_text_file(file, kMaxJsonBytes), nullptr, false);
  require(json.is_object(), "{}: expected a JSON object", file.string());
  const auto found = json.find("eos_token_id");
  if (found == json.end() || found->is_null()) return std::nullopt;
  const auto ids = token_ids(*found);
  require(ids.has_value(), "{}: eos_token_id: expected a token id, or a list of them, got {}", file.string(),
          found->dump());
  return ids;
}

/// Reads all keys of a model of `family`.
void read_model(const Family& family, Reader& from, HuggingFaceConfig& config) {
  if (from.find("quantization_config") != nullptr)
    from.refuse("quantization_config", "quantised weights are not supported; save them in bf16 or fp32");
  check_architectures(from, family);
  for (const char* const key : {"is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder"})
    from.only(key, false);
  (void)from.find("is_decoder");
  if (const nlohmann::json* heads = from.find("pruned_heads"); heads != nullptr && !heads->empty())
    from.refuse("pruned_heads", "is not supported");
  const char* const layers = family.model_type == "gpt2" ? "n_layer" : "num_hidden_layers";
  if (from.whole(layers, std::nullopt) > kMostLayers)
    from.refuse(layers, fmt::format("at most {} layers", kMostLayers));
  family.read(from, config.gpt);
  config.end_tokens = token_ids(from, "eos_token_id");
  const std::vector<int64_t> begin = token_ids(from, "bos_token_id");
  if (begin.size() == 1) config.begin_token = begin[0];
}

/// Collects all keys of a struct of settings with their values as YAML.
class Collector final : public Fields {
 public:
  std::map<std::string, std::string> values;

 protected:
  void on_value(const Field& field) override {
    const std::string path = prefix_ + std::string(field.key);
    values[path] = yaml_text(field.target, path);
  }
  void on_section(std::string_view key, std::string_view, FunctionRef<void()> describe) override {
    const std::string before = prefix_;
    prefix_ += std::string(key) + ".";
    describe();
    prefix_ = before;
  }

 private:
  std::string prefix_;
};

/// Writes the keys whose values differ from `defaults`.
class ChangesWriter final : public Fields {
 public:
  explicit ChangesWriter(const std::map<std::string, std::string>& defaults) : defaults_(defaults) {}
  std::string text;

 protected:
  void on_value(const Field& field) override {
    const std::string path = prefix_ + std::string(field.key);
    const std::string value = yaml_text(field.target, path);
    if (path == "recipe" || value != defaults_.at(path))
      text += fmt::format("{}{}: {}\n", indent_, field.key, value);
  }
  void on_section(std::string_view key, std::string_view, FunctionRef<void()> describe) override {
    const std::string before = std::exchange(text, "");
    const std::string prefix = std::exchange(prefix_, prefix_ + std::string(key) + ".");
    const std::string indent = std::exchange(indent_, indent_ + "  ");
    describe();
    prefix_ = prefix;
    indent_ = indent;
    text = text.empty() ? before : fmt::format("{}{}{}:\n{}", before, indent_, key, text);
  }

 private:
  const std::map<std::string, std::string>& defaults_;
  std::string prefix_, indent_ = "  ";
};

/// The same model with keys without effect set to their defaults. A window of `context` or more is none.
GptConfig canonical(const GptConfig& config, int64_t context) {
  GptConfig c = config.resolved();
  const GptConfig defaults;
  c.recipe = defaults.recipe;
  c.context = c.loss_rows = 0;
  c.dropout = 0;
  c.init_deviation = defaults.init_deviation;
  c.recompute = defaults.recompute;
  if (c.norm == "rms") c.bias = false;
  std::ranges::sort(c.attention.full_layers);
  const auto repeated = std::ranges::unique(c.attention.full_layers);
  c.attention.full_layers.erase(repeated.begin(), repeated.end());
  const bool windows =
      c.attention.window > 0 && static_cast<int64_t>(c.attention.full_layers.size()) < c.layers;
  const bool local = windows && c.positions == "rotary" && c.rotary_local_base > 0 &&
                     (c.rotary_local_base != c.rotary_base || c.rotary_scaling.kind != "none");
  if (!local) c.rotary_local_base = 0;
  if (!windows || (c.attention.window >= context && !local)) {
    c.attention.window = 0;
    c.attention.full_layers.clear();
  }
  if (c.attention.window >= context) c.attention.window = context;
  if (c.positions != "rotary") c.rotary_base = defaults.rotary_base;
  GptRotaryScaling& scaling = c.rotary_scaling;
  const GptRotaryScaling unused;
  if (c.positions != "rotary" || scaling.kind == "none" ||
      (scaling.kind == "linear" && scaling.factor == 1)) {
    scaling = {};
  } else if (scaling.kind == "linear") {
    const double factor = scaling.factor;
    scaling = {};
    scaling.kind = "linear";
    scaling.factor = factor;
  } else if (scaling.kind == "llama3") {
    scaling.beta_fast = unused.beta_fast;
    scaling.beta_slow = unused.beta_slow;
    scaling.attention_factor = unused.attention_factor;
  } else {
    scaling.low_frequency = unused.low_frequency;
    scaling.high_frequency = unused.high_frequency;
    scaling.attention_factor = scaling.resolved().amplitude();
  }
  return c;
}

void join_close(double& a, double b) {
  if (std::abs(a - b) <= 1e-9 * std::abs(b)) a = b;
}

std::string described(const std::vector<GptDifference>& differences, const std::string& class_name) {
  std::string text;
  for (const GptDifference& d : differences) {
    text += fmt::format("\n  model.{} is {}, {} has {}", d.key, d.left, class_name, d.right);
  }
  return text;
}

}  // namespace

std::vector<std::string> hugging_face_model_types() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.push_back(family.model_type);
  return names;
}

HuggingFaceConfig parse_hugging_face_config(std::string_view text, const std::string& name) {
  const nlohmann::json json = parse_strict_json(text, name);
  require(json.is_object(), "{}: not a config.json: expected a map", name);
  HuggingFaceConfig config;
  config.name = name;
  Reader from(json, config);
  config.model_type = from.text("model_type", "");
  if (config.model_type.empty())
    from.refuse("model_type", "expected the model type of a transformers config.json");
  const Family* const family = find_family(config.model_type);
  if (family == nullptr) {
    from.refuse("model_type",
                fmt::format("is not supported; {} are", fmt::join(hugging_face_model_types(), ", ")));
  }
  read_model(*family, from, config);
  from.finish(harmless_keys());
  try {
    config.gpt = config.gpt.resolved();
  } catch (const Error& error) {
    fail("{}: {}", name, error.what());
  }
  return config;
}

std::optional<HuggingFaceConfig> hugging_face_config_of(const fs::path& weights) {
  std::error_code none;
  const bool whole = fs::is_directory(weights, none);
  const fs::path file = (whole ? weights : weights.parent_path()) / "config.json";
  if (!fs::exists(file, none)) return std::nullopt;
  const std::string text = read_text_file(file, kMaxJsonBytes);
  if (!whole) {
    const nlohmann::json any = nlohmann::json::parse(text, nullptr, false);
    if (!any.is_object() || !any.contains("model_type")) return std::nullopt;
  }
  HuggingFaceConfig config = parse_hugging_face_config(text, file.string());
  if (auto ends = generation_end_tokens(file.parent_path())) config.end_tokens = *std::move(ends);
  return config;
}

std::vector<GptDifference> gpt_differences(const GptConfig& left, const GptConfig& right) {
  GptConfig a = canonical(left, left.context);
  GptConfig b = canonical(right, left.context);
  for (GptConfig* c : {&a, &b}) {
    if (c->attention.scale == 0) c->attention.scale = 1 / std::sqrt(static_cast<double>(c->head_dim));
  }
  // Numbers that one side computed.
  join_close(a.attention.scale, b.attention.scale);
  join_close(a.embedding_scale, b.embedding_scale);
  join_close(a.logit_scale, b.logit_scale);
  join_close(a.rotary_scaling.attention_factor, b.rotary_scaling.attention_factor);
  Collector from;
  Collector to;
  a.describe(from);
  b.describe(to);
  std::vector<GptDifference> differences;
  for (const auto& [key, value] : from.values) {
    if (value != to.values[key]) differences.push_back({key, value, to.values[key]});
  }
  return differences;
}

std::string gpt_section(const GptConfig& model) {
  GptConfig defaults;
  defaults.recipe = model.recipe;
  defaults.apply_recipe();
  Collector usual;
  defaults.describe(usual);
  GptConfig config = model;
  // The defaults of these are the values that resolved() gives.
  if (config.kv_heads == config.heads) config.kv_heads = 0;
  if (config.head_dim * config.heads == config.width) config.head_dim = 0;
  for (std::optional<bool>* own : {&config.qkv_bias, &config.output_bias, &config.mlp_bias}) {
    if (*own == config.bias) own->reset();
  }
  ChangesWriter writer(usual.values);
  config.describe(writer);
  return writer.text;
}

void require_same_model(const GptConfig& model, const HuggingFaceConfig& config) {
  std::string problems;
  for (const GptDifference& d : gpt_differences(model, config.gpt)) {
    const auto origin = config.origins.find(d.key);
    problems += fmt::format("\n  model.{} is {}, but {}: set model.{}: {}", d.key, d.left,
                            origin != config.origins.end()
                                ? origin->second
                                : fmt::format("model_type {} has {}", config.model_type, d.right),
                            d.key, d.right);
  }
  if (model.positions == "learned" ? model.context != config.gpt.context
                                   : model.context > config.gpt.context) {
    const auto origin = config.origins.find("context");
    problems += fmt::format("\n  model.context is {}, but {}: set model.context: {}{}", model.context,
                            origin != config.origins.end() ? origin->second : "the file has another value",
                            config.gpt.context, model.positions == "learned" ? "" : " or less");
  }
  require(problems.empty(),
          "{}: the weights do not match the run file's model (`tutti import` writes a run file that "
          "fits):{}",
          config.name, problems);
}

std::string hugging_face_config(const GptConfig& model, const HuggingFaceExport& options) {
  const GptConfig config = model.resolved();
  std::vector<GptDifference> least;
  std::string nearest;
  for (const Family& family : families()) {
    if (family.write == nullptr) continue;
    Json json{{"architectures", {family.class_name}}, {"model_type", family.model_type}};
    family.write(config, json);
    HuggingFaceConfig back;
    back.name = "config.json";
    back.model_type = family.model_type;
    const nlohmann::json plain = json;
    Reader from(plain, back);
    std::vector<GptDifference> differences;
    try {
      read_model(family, from, back);
      differences = gpt_differences(config, back.gpt);
    } catch (const Error&) {
      continue;  // a value that the family does not have
    }
    if (differences.empty()) {
      json["bos_token_id"] = options.begin_token ? Json(*options.begin_token) : Json();
      json["eos_token_id"] = options.end_token ? Json(*options.end_token) : Json();
      json["initializer_range"] = config.init_deviation;
      json["use_cache"] = true;
      json["torch_dtype"] = options.dtype == DType::kFloat16    ? "float16"
                            : options.dtype == DType::kBFloat16 ? "bfloat16"
                                                                : "float32";
      return json.dump(2) + "\n";
    }
    if (nearest.empty() || differences.size() < least.size()) {
      least = std::move(differences);
      nearest = family.class_name;
    }
  }
  fail("export: transformers has no equivalent model; the nearest is {}:{}", nearest,
       described(least, nearest));
}

}  // namespace tutti
