#pragma once

#include "core/data/tokenizer/json_entry.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The character map of a SentencePiece model: a double array (Darts) of keys, and their replacements.
/// Source: sentencepiece, normalizer.cc; Yata et al. 2007 for the double array.
class Charsmap {
 public:
  /// Throws Error naming `entry` unless it is base64 of such a map.
  explicit Charsmap(const JsonEntry& entry);

  /// Appends the normalized `text`: grapheme clusters of fewer than six bytes as a whole if they are in the
  /// map, else each character.
  void append(std::string_view text, std::string& out) const;

 private:
  [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const;
  bool append_mapped(std::string_view key, std::string& out) const;

  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace tutti
