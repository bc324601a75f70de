#pragma once

#include "core/data/tokenizer/json_entry.h"

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// A step that turns tokens back into text. May be used by several threads at once.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Rewrites tokens; what is left is joined at the end.
  virtual void apply(std::vector<std::string>& tokens) const = 0;
  /// Whether it is ByteLevel, which looks at each token alone.
  [[nodiscard]] virtual bool byte_level() const { return false; }
};

/// Reads the steps under "decoder" of a tokenizer.json, those of sequences one behind the other. Throws Error
/// naming the place of a step that is not supported.
std::vector<std::unique_ptr<Decoder>> read_decoders(const JsonEntry& entry);

/// Ids that the post-processor puts before and behind a single text.
struct Frame {
  std::vector<int32_t> before, behind;
};

/// Reads "post_processor" of a tokenizer.json: what it does with a single text. Throws Error naming the place
/// of what is not supported.
Frame read_post_processor(const JsonEntry& entry);

}  // namespace tutti
