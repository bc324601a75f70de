#pragma once

#include "core/data/tokenizer/json_entry.h"

#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// A decoding step. Thread-safe.
class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Rewrites tokens; the results of the last step are concatenated.
  virtual void apply(std::vector<std::string>& tokens) const = 0;
  /// Whether it is ByteLevel, which decodes each token separately.
  [[nodiscard]] virtual bool byte_level() const { return false; }
};

/// Reads the steps under "decoder" of a tokenizer.json, with those of sequences in order. Throws Error naming
/// the path of a step that is not supported.
std::vector<std::unique_ptr<Decoder>> read_decoders(const JsonEntry& entry);

/// Ids that the post-processor adds before and after a single text.
struct Frame {
  std::vector<int32_t> before, behind;
};

/// Reads "post_processor" of a tokenizer.json: its effect on a single text. Throws Error naming the path of
/// an entry that is not supported.
Frame read_post_processor(const JsonEntry& entry);

}  // namespace tutti
