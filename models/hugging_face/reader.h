#pragma once

#include <tutti/models/hugging_face/config.h>

#include <nlohmann/json.hpp>

#include <initializer_list>
#include <set>

// Private to models/hugging_face.
namespace tutti::hugging_face {

using Json = nlohmann::ordered_json;

/// Reads a config.json key by key, and records which keys were read and which run-file keys they set.
class Reader {
 public:
  /// `prefix` precedes keys in messages: "rope_scaling.".
  Reader(const nlohmann::json& object, HuggingFaceConfig& config, std::string prefix = "");

  /// Null if the key is absent or null.
  const nlohmann::json* find(const std::string& key);
  /// The value of `key`, or `otherwise` if it is absent or null; it is recorded as the origin of the run
  /// file's `run_key`. Throws Error naming file, key and value if it has another type or is out of range: a
  /// whole number below `least`, a number that is not positive. An explicit 0 means "none" or "automatic" in
  /// a run file, but not in transformers.
  int64_t whole(const std::string& key, std::optional<int64_t> otherwise, const std::string& run_key = "",
                int64_t least = 1);
  double number(const std::string& key, std::optional<double> otherwise, const std::string& run_key = "");
  bool flag(const std::string& key, bool otherwise, const std::string& run_key = "");
  std::string text(const std::string& key, const std::string& otherwise, const std::string& run_key = "");
  /// Records the origin of a run-file key's value.
  void note(const std::string& run_key, const std::string& key);
  void note_text(const std::string& run_key, const std::string& text) { config_.origins[run_key] = text; }
  /// Refuses a value, naming file and key.
  [[noreturn]] void refuse(const std::string& key, const std::string& why) const;
  /// Refuses the key unless it is absent, null or `value`.
  void only(const std::string& key, const nlohmann::json& value);
  /// Refuses keys that were not read and are not in `harmless`.
  void finish(const std::set<std::string, std::less<>>& harmless) const;

  [[nodiscard]] const nlohmann::json& object() const { return object_; }
  [[nodiscard]] HuggingFaceConfig& config() { return config_; }
  [[nodiscard]] Reader inner(const std::string& key, const nlohmann::json& object);

 private:
  [[nodiscard]] std::string value_of(const std::string& key) const;

  const nlohmann::json& object_;
  HuggingFaceConfig& config_;
  std::string prefix_;
  std::set<std::string, std::less<>> used_;
};

/// One model type of transformers.
struct Family {
  std::string model_type;
  std::string class_name;                  ///< "LlamaForCausalLM"
  std::vector<std::string> other_classes;  ///< whose files have the same tensors: "LlamaModel"
  void (*read)(Reader& from, GptConfig& to);
  void (*write)(const GptConfig& from,
                Json& to);  ///< values that it cannot express are detected by reading it back
};

/// In the order of attempts of an export.
const std::vector<Family>& families();

/// rope_theta, rope_scaling and rope_parameters of models with uniform layers.
void read_rope(Reader& from, GptConfig& to, double usual_base = 10000);
void write_rope(const GptConfig& from, Json& to);
/// One scaling: `rope_type` and its numbers.
void read_scaling(Reader& from, GptConfig& to, const std::string& type);
Json scaling_json(const GptRotaryScaling& scaling);

}  // namespace tutti::hugging_face
