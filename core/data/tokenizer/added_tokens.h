#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/function_ref.h>
#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/json_entry.h"

#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tutti {

/// Finds tokens in text: leftmost, then longest.
class TokenFinder {
 public:
  /// `pattern` is the text to match.
  void add(std::string_view pattern, const AddedToken& token);
  [[nodiscard]] bool empty() const noexcept { return tokens_.empty(); }

  /// Calls `plain(begin, end)` for text between tokens (never empty) and `token(id)` for each token, in
  /// order. Tokens with lstrip or rstrip include adjacent white space; those with single_word match only if
  /// they are not part of a longer word.
  void split(std::string_view text, FunctionRef<void(size_t, size_t)> plain,
             FunctionRef<void(int32_t)> token) const;

 private:
  ByteTrie trie_;
  std::array<bool, 256> first_byte_{};
  std::vector<AddedToken> tokens_;
};

/// The added tokens of a tokenizer, numbered as `tokenizers` numbers them when it reads a file: a token that
/// the vocabulary has keeps that id, the others follow in order; ids in the file are ignored.
class AddedVocabulary {
 public:
  AddedVocabulary() = default;
  /// `token_id` looks up the model's vocabulary of `model_size` tokens, -1 if there is none. `normalize`
  /// applies the normalizer to a text.
  AddedVocabulary(std::vector<AddedToken> tokens, size_t model_size,
                  const std::function<int32_t(const std::string&)>& token_id,
                  const std::function<std::string(const std::string&)>& normalize, const std::string& name);

  /// Tokens in the order of the file; a later one replaces an earlier one with the same id.
  [[nodiscard]] const std::vector<AddedToken>& tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::optional<int32_t> find(std::string_view content) const;

  TokenFinder raw;         ///< matched in the original text
  TokenFinder normalized;  ///< matched in normalized text
  /// Whether a token of `normalized` may contain or include a space at which a text is split.
  bool normalized_take_spaces = false;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
};

/// Finds added tokens in text without a normalizer; normalized ones in the text between the others.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);
  void split(std::string_view text, FunctionRef<void(std::string_view)> plain,
             FunctionRef<void(int32_t)> token) const;

 private:
  TokenFinder before_, after_;
};

}  // namespace tutti
