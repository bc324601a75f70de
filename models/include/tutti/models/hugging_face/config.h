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

/// What the config.json of a causal language model of transformers says.
struct HuggingFaceConfig {
  std::string name;        ///< of the file, for messages
  std::string model_type;  ///< "llama"
  GptConfig gpt;           ///< resolved; the context is the longest that the file names
  /// Run-file key below `model` -> where its value comes from: "num_attention_heads: 12".
  std::map<std::string, std::string, std::less<>> origins;
  std::vector<int64_t> end_tokens;     ///< eos_token_id, of generation_config.json where that has one
  std::optional<int64_t> begin_token;  ///< bos_token_id
};

/// The model types that are read and written: gpt2, llama, mistral, ...
std::vector<std::string> hugging_face_model_types();

/// Reads a config.json of transformers 4 or 5. Throws Error naming file, key and value on what is no such
/// file, on a model or value that a Gpt is not, and on keys that are neither known nor known to be harmless.
HuggingFaceConfig parse_hugging_face_config(std::string_view text, const std::string& name);

/// The same for the config.json in the directory of `weights`, or in `weights` itself where that is one.
/// Empty if there is none, or if `weights` is a file and the config.json beside it has no model_type: it may
/// be anybody's.
std::optional<HuggingFaceConfig> hugging_face_config_of(const std::filesystem::path& weights);

/// One key of a run file's model section on which two models differ, as YAML.
struct GptDifference {
  std::string key, left, right;
};

/// All keys that make two models compute something else: not dropout, first values, recomputing, fp8, the
/// recipe, nor the context. What has no effect (a window that is no shorter than the context of `left`, a
/// rotary base without rotary positions) does not count.
std::vector<GptDifference> gpt_differences(const GptConfig& left, const GptConfig& right);

/// Throws Error if `model` computes something else than the weights beside `config` were trained for, naming
/// for each difference the key of the run file, both values, and what to set.
void require_same_model(const GptConfig& model, const HuggingFaceConfig& config);

/// The keys of a run file's model section that `model` needs, as YAML of two spaces more than `model:`. Those
/// that have their recipe's defaults are left out.
std::string gpt_section(const GptConfig& model);

/// What an exported config.json says besides the model.
struct HuggingFaceExport {
  DType dtype = DType::kFloat32;
  std::optional<int64_t> begin_token, end_token;
};

/// The config.json with which transformers computes what `model` does: of the first family that can. Throws
/// Error naming the keys that no family has.
std::string hugging_face_config(const GptConfig& model, const HuggingFaceExport& options);

}  // namespace tutti
