#include <tutti/core/data/tokenizer.h>
#include "core/data/tokenizer/model.h"
#include "core/data/unicode.h"

namespace tutti {
namespace {

/// Words as they are, or the unknown token.
class WordLevel : public TokenModel {
 public:
  explicit WordLevel(const JsonEntry& entry) : unknown_(entry.text("unk_token")) {
    vocabulary_ = read_vocabulary(entry.object("vocab"));
    size_ = vocabulary_.size();
  }
  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const auto found = vocabulary_.find(word);
    ids.push_back(found == vocabulary_.end() ? unknown_id(word) : found->second);
  }

 protected:
  [[nodiscard]] int32_t unknown_id(std::string_view word) const {
    const auto unknown = vocabulary_.find(unknown_);
    require(unknown != vocabulary_.end(), "tokenizer: '{}' is unknown, and so is the unk_token '{}'",
            shown(word), shown(unknown_));
    return unknown->second;
  }

 private:
  std::string unknown_;
};

/// Greedy longest match from the left. Source: Wu et al. 2016, section 4.1, as in BERT.
class WordPiece : public WordLevel {
 public:
  explicit WordPiece(const JsonEntry& entry)
      : WordLevel(entry),
        prefix_(entry.text("continuing_subword_prefix")),
        longest_word_(static_cast<size_t>(entry.count("max_input_chars_per_word"))) {
    entry.check(vocabulary_.contains(entry.text("unk_token")), "unk_token '{}' is not in the vocabulary",
                shown(entry.text("unk_token")));
    for (const auto& [token, id] : vocabulary_) longest_token_ = std::max(longest_token_, token.size());
  }

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    const size_t before = ids.size();
    if (is_long(word) || !append_pieces(word, ids)) {
      ids.resize(before);
      ids.push_back(unknown_id(word));
    }
  }

 private:
  [[nodiscard]] bool is_long(std::string_view word) const {
    size_t characters = 0;
    for (size_t i = 0; i < word.size() && characters <= longest_word_; ++characters) {
      i += decode_utf8(word, i).bytes;
    }
    return characters > longest_word_;
  }

  bool append_pieces(std::string_view word, std::vector<int32_t>& ids) const {
    std::string piece;
    for (size_t begin = 0; begin < word.size();) {
      piece = begin == 0 ? "" : prefix_;
      const size_t decoration = piece.size();
      piece += word.substr(begin, longest_token_ + 1);
      while (piece.size() > decoration && !vocabulary_.contains(piece)) {
        do {
          piece.pop_back();
        } while (piece.size() > decoration && begin + piece.size() - decoration < word.size() &&
                 (static_cast<unsigned char>(word[begin + piece.size() - decoration]) & 0xc0U) == 0x80U);
      }
      if (piece.size() == decoration) return false;
      ids.push_back(vocabulary_.find(piece)->second);
      begin += piece.size() - decoration;
    }
    return true;
  }

  std::string prefix_;
  size_t longest_word_, longest_token_ = 0;
};

}  // namespace

std::unique_ptr<TokenModel> read_word_piece(const JsonEntry& entry) {
  return std::make_unique<WordPiece>(entry);
}
std::unique_ptr<TokenModel> read_word_level(const JsonEntry& entry) {
  return std::make_unique<WordLevel>(entry);
}

}  // namespace tutti
