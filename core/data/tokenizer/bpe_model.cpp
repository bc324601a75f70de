#include <tutti/core/data/tokenizer.h>
#include "core/data/tokenizer/bpe_merges.h"
#include "core/data/tokenizer/model.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <array>
#include <unordered_set>

namespace tutti {
namespace {

using Tokens = std::vector<int32_t>;

/// Byte-pair encoding. Source: Sennrich et al. 2016; rules for unknown characters follow tokenizers.
class Bpe : public TokenModel {
 public:
  explicit Bpe(const JsonEntry& entry)
      : merges_(entry.list("merges").size()),
        prefix_(entry.text("continuing_subword_prefix", "")),
        suffix_(entry.text("end_of_word_suffix", "")),
        unknown_(entry.text("unk_token", "")),
        has_unknown_(!entry.null("unk_token")),
        fuse_unknown_(entry.flag("fuse_unk", false)),
        ignore_merges_(entry.flag("ignore_merges", false)) {
    entry.check(entry.null("dropout") || entry.value().at("dropout") == 0,
                "BPE dropout, which is not supported");
    vocabulary_ = read_vocabulary(entry.object("vocab"));
    size_ = vocabulary_.size();
    if (has_unknown_) unknown_id_ = id_of(unknown_);
    if (entry.flag("byte_fallback", false)) {
      for (size_t byte = 0; byte < 256; ++byte) {
        fallback_[byte] = id_of(byte_token(static_cast<unsigned char>(byte)));
      }
    }
    for (const auto& [token, id] : vocabulary_) {
      longest_ = std::max(longest_, token.size());
      const Utf8Char c = token.empty() ? Utf8Char{} : decode_utf8(token, 0);
      if (c.bytes == token.size() && c.code != Utf8Char::kInvalid) put_character(c.code, id);
    }
    read_merges(entry.list("merges"));
  }

  void encode(std::string_view word, Tokens& ids) const override {
    if (ignore_merges_ && word.size() <= longest_) {
      const auto whole = whole_words_.empty() ? vocabulary_.find(word) : vocabulary_.end();
      if (whole != vocabulary_.end()) return ids.push_back(whole->second);
      const auto bytes = whole_words_.find(word);
      if (bytes != whole_words_.end()) return ids.push_back(bytes->second);
    }
    if (bytes_) return encode_bytes(word, ids);
    Tokens symbols;
    symbols.reserve(word.size());
    append_symbols(word, symbols);
    merge_pairs(merges_, symbols, ids);
  }

  bool take_bytes() override {
    if (!prefix_.empty() || !suffix_.empty()) return false;
    std::array<int32_t, 256> ids{};
    for (size_t byte = 0; byte < 256; ++byte) {
      std::string symbol;
      append_utf8(symbol, byte_symbol(static_cast<uint8_t>(byte)));
      ids[byte] = id_of(symbol);
      if (ids[byte] < 0) return false;
    }
    byte_ids_ = ids;
    bytes_ = true;
    if (ignore_merges_) {
      for (const auto& [token, id] : vocabulary_) {
        if (auto bytes = bytes_of_symbols(token)) whole_words_.emplace(std::move(*bytes), id);
      }
    }
    return true;
  }

  [[nodiscard]] size_t part_end(std::string_view word, size_t begin) const override {
    if (bytes_ || !cuts_) return word.size();
    Utf8Char left = decode_utf8(word, begin);
    for (size_t i = begin + left.bytes; i < word.size();) {
      const Utf8Char right = decode_utf8(word, i);
      if (cut_between(left.code, right.code)) return i;
      left = right;
      i += right.bytes;
    }
    return word.size();
  }

  [[nodiscard]] bool one_by_one() const override { return bytes_ && no_merges_ && !ignore_merges_; }

  [[nodiscard]] bool cuts_before(char32_t mark) const override {
    if (bytes_ || !cuts_ || drops_ || character(mark) < 0) return false;
    return std::none_of(inner_.begin(), inner_.end(), [&](uint64_t pair) {
      const CharClass left = char_class(static_cast<char32_t>(pair >> 32));
      return static_cast<char32_t>(pair) == mark &&
             (left == CharClass::kLetter || left == CharClass::kNumber);
    });
  }

 private:
  [[nodiscard]] int32_t id_of(std::string_view token) const {
    const auto found = vocabulary_.find(token);
    return found == vocabulary_.end() ? -1 : found->second;
  }

  void put_character(char32_t code, int32_t id) {
    if (code >= characters_.size()) characters_.resize(std::max<size_t>(code + 1, 256), -1);
    characters_[code] = id;
  }
  [[nodiscard]] int32_t character(char32_t code) const {
    return code < characters_.size() ? characters_[code] : -1;
  }

  /// Two characters that are not adjacent in any merged token are never joined, so the ids of both sides are
  /// independent. Fused unknown characters are kept together; dropped ones make their neighbours adjacent.
  [[nodiscard]] bool cut_between(char32_t left, char32_t right) const {
    if (inner_.contains(static_cast<uint64_t>(left) << 32 | right)) return false;
    const bool left_known = character(left) >= 0, right_known = character(right) >= 0;
    return (!fuses_ || left_known || right_known) && (!drops_ || (left_known && right_known));
  }

  void read_merges(const JsonEntry& list) {
    no_merges_ = list.size() == 0;
    std::unordered_set<int32_t> stand_ins(fallback_.begin(), fallback_.end());
    stand_ins.insert(unknown_id_);
    stand_ins.erase(-1);
    bool plain = prefix_.empty() && suffix_.empty() && !ignore_merges_;
    bool all_bytes = true;
    for (const int32_t id : fallback_) all_bytes = all_bytes && id >= 0;
    fuses_ = has_unknown_ && fuse_unknown_ && !all_bytes;
    drops_ = !has_unknown_ && !all_bytes;
    // Tokens of single bytes may be emitted before an earlier unknown token: such words are not split.
    for (const int32_t id : fallback_) plain = plain && (all_bytes || id < 0);
    for (size_t rank = 0; rank < list.size(); ++rank) {
      const auto [left, right] = read_pair(list, rank);
      const int32_t left_id = id_of(left), right_id = id_of(right);
      list.check(left_id >= 0 && right_id >= 0, "merge {} names '{}', which is not a token of the vocabulary",
                 rank, shown(left_id < 0 ? left : right));
      list.check(right.size() >= prefix_.size(), "merge {}: '{}' is shorter than the prefix '{}'", rank,
                 shown(right), shown(prefix_));
      const std::string joined = left + right.substr(prefix_.size());
      const int32_t id = id_of(joined);
      list.check(id >= 0, "merge {} creates '{}', which is not in the vocabulary", rank, shown(joined));
      merges_.put(left_id, right_id, {static_cast<uint32_t>(rank), id});
      plain = plain && !stand_ins.contains(left_id) && !stand_ins.contains(right_id);
      if (plain) remember_pairs(joined);
    }
    cuts_ = plain;
    if (!plain) inner_.clear();
  }

  void remember_pairs(const std::string& token) {
    Utf8Char left = decode_utf8(token, 0);
    for (size_t i = left.bytes; i < token.size();) {
      const Utf8Char right = decode_utf8(token, i);
      inner_.insert(static_cast<uint64_t>(left.code) << 32 | right.code);
      left = right;
      i += right.bytes;
    }
  }

  static std::pair<std::string, std::string> read_pair(const JsonEntry& list, size_t rank) {
    const auto& merge = list.value()[rank];
    if (merge.is_string()) {
      const auto& both = merge.get_ref<const std::string&>();
      const size_t space = both.find(' ');
      list.check(space != std::string::npos && both.find(' ', space + 1) == std::string::npos,
                 "merge {}: expected two tokens separated by a space, got '{}'", rank, shown(both));
      return {both.substr(0, space), both.substr(space + 1)};
    }
    list.check(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
               "merge {}: expected two tokens", rank);
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  }

  void encode_bytes(std::string_view word, Tokens& ids) const {
    constexpr size_t kShort = 32;
    if (word.size() <= kShort) {
      std::array<int32_t, kShort> symbols{};
      for (size_t i = 0; i < word.size(); ++i) symbols[i] = byte_ids_[static_cast<unsigned char>(word[i])];
      return merge_pairs(merges_, std::span(symbols).first(word.size()), ids);
    }
    Tokens symbols(word.size());
    for (size_t i = 0; i < word.size(); ++i) symbols[i] = byte_ids_[static_cast<unsigned char>(word[i])];
    merge_pairs(merges_, symbols, ids);
  }

  /// The tokens of single characters that a word begins with.
  void append_symbols(std::string_view word, Tokens& symbols) const {
    bool pending = false;  // an unknown token that may include more characters
    for (size_t i = 0; i < word.size();) {
      const Utf8Char c = decode_utf8(word, i);
      const bool first = i == 0, last = i + c.bytes == word.size();
      int32_t id = -1;
      std::string decorated;
      std::string_view one = word.substr(i, c.bytes);
      if ((!first && !prefix_.empty()) || (last && !suffix_.empty())) {
        decorated = (first ? "" : prefix_) + std::string(one) + (last ? suffix_ : "");
        one = decorated;
        id = id_of(one);
      } else {
        id = character(c.code);
      }
      i += c.bytes;
      if (id >= 0) {
        if (std::exchange(pending, false)) symbols.push_back(unknown_id_);
        symbols.push_back(id);
        continue;
      }
      if (append_fallback(one, symbols)) continue;
      if (!has_unknown_) continue;  // tokenizers drops the character, too
      require(unknown_id_ >= 0, "tokenizer: '{}' is unknown, and so is the unk_token '{}'", shown(one),
              shown(unknown_));
      if (pending && !fuse_unknown_) symbols.push_back(unknown_id_);
      pending = true;
    }
    if (pending) symbols.push_back(unknown_id_);
  }

  bool append_fallback(std::string_view text, Tokens& symbols) const {
    for (const char c : text) {
      if (fallback_[static_cast<unsigned char>(c)] < 0) return false;
    }
    for (const char c : text) symbols.push_back(fallback_[static_cast<unsigned char>(c)]);
    return true;
  }

  MergeTable merges_;
  std::string prefix_, suffix_, unknown_;
  bool has_unknown_, fuse_unknown_, ignore_merges_;
  int32_t unknown_id_ = -1;
  std::array<int32_t, 256> fallback_ = [] {
    std::array<int32_t, 256> none{};
    none.fill(-1);
    return none;
  }();
  std::vector<int32_t> characters_;  // ids of tokens of one character, by code point
  size_t longest_ = 0;               // token, in bytes
  bool no_merges_ = false;

  bool bytes_ = false;
  std::array<int32_t, 256> byte_ids_{};
  TokenIds whole_words_;  // tokens by bytes, for ignore_merges

  bool cuts_ = false;                   // inner_ is complete
  bool fuses_ = false, drops_ = false;  // treatment of unknown characters
  std::unordered_set<uint64_t> inner_;  // adjacent characters in merged tokens
};

}  // namespace

std::unique_ptr<TokenModel> read_bpe(const JsonEntry& entry) {
  return std::make_unique<Bpe>(entry);
}

}  // namespace tutti
