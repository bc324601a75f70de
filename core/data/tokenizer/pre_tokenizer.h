#pragma once

#include <tutti/core/function_ref.h>
#include "core/data/tokenizer/json_entry.h"

#include <algorithm>
#include <memory>
#include <string_view>
#include <vector>

namespace tutti {

/// A part of a text.
struct Piece {
  std::string_view text;
  size_t front = 0;  ///< like NormalText::front

  [[nodiscard]] Piece part(size_t begin, size_t end) const {
    return {text.substr(begin, end - begin), front > begin ? std::min(front - begin, end - begin) : 0};
  }
};
using Emit = FunctionRef<void(const Piece&)>;

/// A step that splits text into pieces, and may rewrite them. May be used by several threads at once.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Calls `emit` for each piece in order; empty ones are dropped behind it. What a piece refers to lives
  /// until `emit` returns.
  virtual void split(const Piece& piece, Emit emit) const = 0;

  /// What the step does with a text that is cut between a letter or number and a space.
  enum class BeforeSpace : uint8_t {
    kUnknown,   ///< other pieces, perhaps
    kStable,    ///< the same pieces, but for the one that holds the cut
    kBoundary,  ///< it cuts there itself, and the two sides do not depend on each other
  };
  [[nodiscard]] virtual BeforeSpace before_space() const { return BeforeSpace::kUnknown; }

  /// Whether the pieces are the text, cut.
  [[nodiscard]] virtual bool keeps_text() const { return false; }

  /// Splits by a rule that needs no other memory: where the word at `begin` ends; null if there is none.
  using WordEnd = size_t (*)(std::string_view, size_t);
  [[nodiscard]] virtual WordEnd word_end() const { return nullptr; }
};

/// ByteLevel: splits by GPT-2's rule if asked, and writes bytes as symbols unless `as_bytes` was called.
class ByteLevelSplit : public PreTokenizer {
 public:
  explicit ByteLevelSplit(const JsonEntry& entry);
  void split(const Piece& piece, Emit emit) const override;
  [[nodiscard]] BeforeSpace before_space() const override;
  [[nodiscard]] WordEnd word_end() const override;
  [[nodiscard]] bool keeps_text() const override { return !add_space_ && !symbols_; }
  /// The model takes bytes.
  void as_bytes() noexcept { symbols_ = false; }
  [[nodiscard]] bool adds_space() const noexcept { return add_space_; }

 private:
  bool add_space_, words_;
  bool symbols_ = true;
};

/// Reads the steps under "pre_tokenizer" of a tokenizer.json, those of sequences one behind the other. Throws
/// Error naming the place of a step that is not supported.
std::vector<std::unique_ptr<PreTokenizer>> read_pre_tokenizers(const JsonEntry& entry);

}  // namespace tutti
