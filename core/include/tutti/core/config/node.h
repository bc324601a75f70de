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
  std::optional<std::string> typed;           ///< of a `--set` value: as it was typed
  std::shared_ptr<const std::string> source;  ///< file name, or the `--set` argument
  int64_t line = 0;                           ///< from 1; 0 for none
  std::vector<std::string> keys;              ///< of a map, one for each item
  std::vector<ConfigNode> items;

  /// "run.yaml:12", or "--set train.steps=5".
  [[nodiscard]] std::string where() const;
  /// The item of a map; null if it has none of that name.
  [[nodiscard]] const ConfigNode* find(std::string_view key) const;
};

/// What a run file may cost: real ones are far below, hostile ones end here.
inline constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
inline constexpr int64_t kMaxConfigDepth = 32;
inline constexpr int64_t kMaxConfigNodes = 50'000;

/// Parses one YAML document. Refused with name and line: what is not YAML or not UTF-8, duplicate keys, keys
/// that are not plain text, values that go on in the next line unless they are block scalars, anchors,
/// aliases and tags, a second document or anything else behind the first, and what exceeds the limits above.
/// An empty text gives a null node. With `lines` false, places are named without a line number.
ConfigNode parse_yaml(std::string_view text, const std::string& name, bool lines = true);

}  // namespace tutti
