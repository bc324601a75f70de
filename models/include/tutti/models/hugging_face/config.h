#pragma once

#include <tutti/models/gpt.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The config.json of a causal language model of transformers.
struct HuggingFaceConfig {
  std::string name;        ///< of the file, for messages
  std::string model_type;  ///< "llama"
  GptConfig gpt;           ///< resolved; the context is the maximum in the file
  /// Run-file key below `model` -> origin of its value: "num_attention_heads: 12".
  std::map<std::string, std::string, std::less<>> origins;
  std::vector<int64_t> end_tokens;     ///< eos_token_id, from generation_config.json if present there
  std::optional<int64_t> begin_token;  ///< bos_token_id
};

/// The supported model types: gpt2, llama, mistral, ...
std::vector<std::string> hugging_face_model_types();

/// Reads a config.json of transformers 4 or 5. Throws Error naming file, key and value for an invalid file,
/// an unsupported model or value, and keys that are neither known nor known to be harmless.
HuggingFaceConfig parse_hugging_face_config(std::string_view text, const std::string& name);

/// The same for the config.json in the directory of `weights`, or in `weights` itself if that is a directory.
/// Empty if there is none, or if `weights` is a file and the config.json next to it has no model_type: it may
/// be unrelated.
std::optional<HuggingFaceConfig> hugging_face_config_of(const std::filesystem::path& weights);

/// One key of a run file's model section on which two models differ, as YAML.
struct GptDifference {
  std::string key, left, right;
};

/// All keys by which two models compute different functions: not dropout, initialisation, recomputation, fp8,
/// the recipe, nor the context. Keys without effect (a window at least as long as the context of `left`, a
/// rotary base without rotary positions) are ignored.
std::vector<GptDifference> gpt_differences(const GptConfig& left, const GptConfig& right);

/// Throws Error if `model` computes another function than the model of `config`, naming for each difference
/// the key of the run file, both values, and the value to set.
void require_same_model(const GptConfig& model, const HuggingFaceConfig& config);

/// The keys of a run file's model section that `model` needs, as YAML indented by two spaces more than
/// `model:`. Keys with their recipe's defaults are omitted.
std::string gpt_section(const GptConfig& model);

/// Contents of an exported config.json besides the model.
struct HuggingFaceExport {
  DType dtype = DType::kFloat32;
  std::optional<int64_t> begin_token, end_token;
};

/// The config.json with which transformers computes the same as `model`, for the first family that supports
/// it. Throws Error naming the keys that no family supports.
std::string hugging_face_config(const GptConfig& model, const HuggingFaceExport& options);

}  // namespace tutti
