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

/// Finds tokens in text: the leftmost first, the longest of several.
class TokenFinder {
 public:
  /// `pattern` is the text to look for.
  void add(std::string_view pattern, const AddedToken& token);
  [[nodiscard]] bool empty() const noexcept { return tokens_.empty(); }

  /// Calls `plain(begin, end)` for what is between tokens (never empty) and `token(id)` for each of them, in
  /// order. Tokens with lstrip or rstrip take the white space beside them; those with single_word count only
  /// where no word goes on beside them.
  void split(std::string_view text, FunctionRef<void(size_t, size_t)> plain,
             FunctionRef<void(int32_t)> token) const;

 private:
  ByteTrie trie_;
  std::array<bool, 256> first_byte_{};
  std::vector<AddedToken> tokens_;
};

/// The added tokens of a tokenizer, numbered as `tokenizers` numbers them when it reads a file: a token that
/// the vocabulary has keeps that id, the others follow in order; ids in the file are not looked at.
class AddedVocabulary {
 public:
  AddedVocabulary() = default;
  /// `token_id` is the model's vocabulary, -1 where it has none, of `model_size` tokens. `normalize` is what
  /// the normalizer makes of a text.
  AddedVocabulary(std::vector<AddedToken> tokens, size_t model_size,
                  const std::function<int32_t(const std::string&)>& token_id,
                  const std::function<std::string(const std::string&)>& normalize, const std::string& name);

  /// Tokens in the order of the file; a later one with the id of an earlier one has replaced it.
  [[nodiscard]] const std::vector<AddedToken>& tokens() const noexcept { return tokens_; }
  [[nodiscard]] std::optional<int32_t> find(std::string_view content) const;

  TokenFinder raw;         ///< looked for in the text as it came
  TokenFinder normalized;  ///< looked for in normalized text
  /// Whether a token of `normalized` may hold, or take, a space beside which a text is cut.
  bool normalized_take_spaces = false;

 private:
  std::vector<AddedToken> tokens_;
  std::unordered_map<std::string, int32_t> ids_;
};

/// Finds added tokens in text without a normalizer; normalized ones in what the others leave.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);
  void split(std::string_view text, FunctionRef<void(std::string_view)> plain,
             FunctionRef<void(int32_t)> token) const;

 private:
  TokenFinder before_, after_;
};

}  // namespace tutti
