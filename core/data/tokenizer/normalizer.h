#pragma once

#include "core/data/tokenizer/json_entry.h"

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// A text on its way through the normalizers.
struct NormalText {
  std::string text;
  /// So many bytes at its beginning stand for the first character of the whole text: what Metaspace with
  /// prepend_scheme "first" asks for. 0 if the text does not begin there, or that character was removed.
  size_t front = 0;
  /// The text goes on from one that was cut before this: nothing is prepended.
  bool continues = false;
};

/// A step that rewrites text before it is split. May be used by several threads at once.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(NormalText& text) const = 0;
  /// Whether the parts of a text that is cut between a letter or number and a space give the parts of the
  /// whole's result.
  [[nodiscard]] virtual bool stable_before_space() const { return true; }
};

/// Reads the steps under "normalizer" of a tokenizer.json, those of sequences one behind the other. Throws
/// Error naming the place of a step that is not supported.
std::vector<std::unique_ptr<Normalizer>> read_normalizers(const JsonEntry& entry);

}  // namespace tutti
