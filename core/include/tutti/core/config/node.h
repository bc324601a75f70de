#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A parsed node of a run file: text with its location, without types.
struct ConfigNode {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;                           ///< of a scalar
  bool quoted = false;                        ///< the scalar is quoted, so it is not a number
  std::optional<std::string> typed;           ///< of a `--set` value: the unparsed text
  std::shared_ptr<const std::string> source;  ///< file name, or the `--set` argument
  int64_t line = 0;                           ///< from 1; 0 for none
  std::vector<std::string> keys;              ///< of a map, one for each item
  std::vector<ConfigNode> items;

  /// "run.yaml:12", or "--set train.steps=5".
  [[nodiscard]] std::string where() const;
  /// The item of a map; null if it has none of that name.
  [[nodiscard]] const ConfigNode* find(std::string_view key) const;
};

/// Limits of a run file, against hostile ones; real ones are far smaller.
inline constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
inline constexpr int64_t kMaxConfigDepth = 32;
inline constexpr int64_t kMaxConfigNodes = 50'000;

/// Parses one YAML document. Throws Error with name and line on text that is not YAML or not UTF-8, duplicate
/// keys, keys that are not plain text, values that continue on the next line unless they are block scalars,
/// anchors, aliases and tags, text after the document, and if a limit above is exceeded. An empty text gives
/// a null node. With `lines` false, messages have no line numbers.
ConfigNode parse_yaml(std::string_view text, const std::string& name, bool lines = true);

}  // namespace tutti
