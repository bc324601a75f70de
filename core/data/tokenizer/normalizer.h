#pragma once

#include "core/data/tokenizer/json_entry.h"

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// A text during normalization.
struct NormalText {
  std::string text;
  /// Number of bytes at its beginning from the first character of the whole text, for Metaspace with
  /// prepend_scheme "first". 0 if the text begins later, or that character was removed.
  size_t front = 0;
  /// The text continues one that was split before it: nothing is prepended.
  bool continues = false;
};

/// A step that rewrites text before it is split. Thread-safe.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalText& text) const = 0;
  /// Whether, for a text split between a letter or number and a space, the results of the parts are the parts
  /// of the result of the whole.
  [[nodiscard]] virtual bool stable_before_space() const { return true; }
};

/// Reads the steps under "normalizer" of a tokenizer.json, with those of sequences in order. Throws Error
/// naming the path of a step that is not supported.
std::vector<std::unique_ptr<Normalizer>> read_normalizers(const JsonEntry& entry);

}  // namespace tutti
