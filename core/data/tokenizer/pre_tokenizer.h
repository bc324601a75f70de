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

/// A step that splits text into pieces, and may rewrite them. Thread-safe.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  /// Calls `emit` for each piece in order; the caller drops empty ones. The memory of a piece is valid until
  /// `emit` returns.
  virtual void split(const Piece& piece, Emit emit) const = 0;

  /// Pieces of a text that is split between a letter or number and a space.
  enum class BeforeSpace : uint8_t {
    kUnknown,   ///< possibly other pieces
    kStable,    ///< the same pieces, except the one at the split
    kBoundary,  ///< the step splits there itself, and the two sides are independent
  };
  [[nodiscard]] virtual BeforeSpace before_space() const { return BeforeSpace::kUnknown; }

  /// Whether the pieces are substrings of the text.
  [[nodiscard]] virtual bool keeps_text() const { return false; }

  /// The end of the word at `begin`, by a rule that needs no other state; null if there is none.
  using WordEnd = size_t (*)(std::string_view, size_t);
  [[nodiscard]] virtual WordEnd word_end() const { return nullptr; }
};

/// ByteLevel: optionally splits by GPT-2's rule, and writes bytes as symbols unless `as_bytes` was called.
class ByteLevelSplit : public PreTokenizer {
 public:
  explicit ByteLevelSplit(const JsonEntry& entry);
  void split(const Piece& piece, Emit emit) const override;
  [[nodiscard]] BeforeSpace before_space() const override;
  [[nodiscard]] WordEnd word_end() const override;
  [[nodiscard]] bool keeps_text() const override { return !add_space_ && !symbols_; }
  /// The input of the model is bytes.
  void as_bytes() noexcept { symbols_ = false; }
  [[nodiscard]] bool adds_space() const noexcept { return add_space_; }

 private:
  bool add_space_, words_;
  bool symbols_ = true;
};

/// Reads the steps under "pre_tokenizer" of a tokenizer.json, with those of sequences in order. Throws Error
/// naming the path of a step that is not supported.
std::vector<std::unique_ptr<PreTokenizer>> read_pre_tokenizers(const JsonEntry& entry);

}  // namespace tutti
