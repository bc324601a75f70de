#pragma once

#include "core/data/tokenizer/json_entry.h"

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tutti {

struct TokenHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
/// Ids by token.
using TokenIds = std::unordered_map<std::string, int32_t, TokenHash, std::equal_to<>>;

/// Maps words to ids. Thread-safe.
class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of a non-empty word.
  virtual void encode(std::string_view word, std::vector<int32_t>& ids) const = 0;
  /// Ids by token, as in the file.
  [[nodiscard]] const TokenIds& vocabulary() const noexcept { return vocabulary_; }
  /// Tokens of the file's vocabulary; added tokens are numbered from here.
  [[nodiscard]] size_t size() const noexcept { return size_; }

  /// Switches to words of bytes instead of byte symbols; false if the model does not support it.
  virtual bool take_bytes() { return false; }
  /// A position after `begin` at which a word may be split so that the ids of both parts are those of the
  /// whole; its size if there is none.
  [[nodiscard]] virtual size_t part_end(std::string_view word, size_t) const { return word.size(); }
  /// Whether it splits between every letter or number and `mark`.
  [[nodiscard]] virtual bool cuts_before(char32_t) const { return false; }
  /// Whether the ids of each character, or byte, are independent of its neighbours.
  [[nodiscard]] virtual bool one_by_one() const { return false; }

 protected:
  TokenIds vocabulary_;
  size_t size_ = 0;
};

/// Reads "model" of a tokenizer.json: BPE, Unigram, WordPiece or WordLevel. Throws Error naming the path.
std::unique_ptr<TokenModel> read_token_model(const JsonEntry& entry);

std::unique_ptr<TokenModel> read_bpe(const JsonEntry& entry);
std::unique_ptr<TokenModel> read_unigram(const JsonEntry& entry);
std::unique_ptr<TokenModel> read_word_piece(const JsonEntry& entry);
std::unique_ptr<TokenModel> read_word_level(const JsonEntry& entry);

/// Ids of {"token": id, ..}. Throws Error if an id is a duplicate or far above the number of tokens.
TokenIds read_vocabulary(const JsonEntry& entry);

/// The token of a byte for byte fallback: <0x0A>.
std::string byte_token(unsigned char byte);

}  // namespace tutti
