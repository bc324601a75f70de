#include <tutti/core/data/tokenizer.h>
#include "core/data/tokenizer/byte_trie.h"
#include "core/data/tokenizer/model.h"
#include "core/data/unicode.h"

#include <algorithm>
#include <limits>

namespace tutti {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr size_t kWindow = size_t{1} << 16;

/// The most probable segmentation. Source: Kudo 2018, "Subword regularization"; ties and unknown characters
/// as in tokenizers.
class Unigram : public TokenModel {
 public:
  explicit Unigram(const JsonEntry& entry) {
    const JsonEntry vocab = entry.list("vocab");
    size_ = vocab.size();
    vocab.check(size_ > 0 && size_ < static_cast<size_t>(kMaxVocabulary), "a vocabulary of {} tokens", size_);
    scores_.reserve(size_);
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < size_; ++i) {
      const auto& pair = vocab.value()[i];
      vocab.check(pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number(),
                  "item {}: expected a token and its score", i);
      const auto& token = pair[0].get_ref<const std::string&>();
      scores_.push_back(pair[1].get<double>());
      least = std::min(least, scores_.back());
      vocabulary_[token] = static_cast<int32_t>(i);
      if (!token.empty()) trie_.put(token, static_cast<int32_t>(i));
    }
    unknown_score_ = least - kUnknownPenalty;
    if (!entry.null("unk_id")) {
      unknown_ = entry.at("unk_id").id();
      entry.check(static_cast<size_t>(unknown_) < size_, "unk_id {} in a vocabulary of {} tokens", unknown_,
                  size_);
    }
    byte_fallback_ = entry.flag("byte_fallback", false);
  }

  void encode(std::string_view word, std::vector<int32_t>& ids) const override {
    Output output{*this, word, ids};
    // Best paths to each position from `base` on. If no token extends beyond a position, everything before it
    // is final, so the memory does not grow with the word.
    std::vector<Best> best(1);
    size_t base = 0, reach = 0;
    for (size_t begin = 0; begin < word.size();) {
      if (reach <= begin && begin - base >= kWindow) {
        emit_best(best, begin - base, base, output);
        best = {Best{best[begin - base].score, 0, 0}};
        base = begin;
      }
      const double score = best[begin - base].score;
      const size_t one = decode_utf8(word, begin).bytes;
      const auto offer = [&](size_t length, int32_t id, double candidate) {
        reach = std::max(reach, begin + length);
        if (best.size() <= begin - base + length) best.resize(begin - base + length + 1);
        Best& there = best[begin - base + length];
        if (there.length == 0 || candidate > there.score) {
          there = {candidate, id, static_cast<uint32_t>(length)};
        }
      };
      bool single = false;
      int32_t node = ByteTrie::kRoot;
      for (size_t k = begin; k < word.size(); ++k) {
        node = trie_.child(node, static_cast<unsigned char>(word[k]));
        if (node < 0) break;
        const int32_t id = trie_.value(node);
        if (id < 0) continue;
        const size_t length = k + 1 - begin;
        offer(length, id, scores_[static_cast<size_t>(id)] + score);
        single = single || length == one;
      }
      if (!single) offer(one, kUnknownPiece, unknown_score_ + score);
      begin += one;
    }
    emit_best(best, word.size() - base, base, output);
    output.finish();
  }

 private:
  static constexpr int32_t kUnknownPiece = -1;
  struct Best {
    double score = 0;
    int32_t id = 0;
    uint32_t length = 0;  ///< of the last token of the path; 0: no path yet
  };

  /// Emits pieces in order; consecutive unknown ones are one.
  struct Output {
    const Unigram& model;
    std::string_view word;
    std::vector<int32_t>& ids;
    size_t unknown_begin = 0, unknown_end = 0;

    void piece(size_t begin, size_t end, int32_t id) {
      if (id == kUnknownPiece || id == model.unknown_) {
        require(model.unknown_ >= 0, "tokenizer: '{}' is unknown, and the model has no unk_id",
                shown(word.substr(begin, end - begin)));
        if (unknown_begin == unknown_end) unknown_begin = begin;
        unknown_end = end;
        return;
      }
      finish();
      ids.push_back(id);
    }
    void finish() {
      if (unknown_begin == unknown_end) return;
      model.append_unknown(word.substr(unknown_begin, unknown_end - unknown_begin), ids);
      unknown_begin = unknown_end = 0;
    }
  };

  static void emit_best(const std::vector<Best>& best, size_t end, size_t base, Output& output) {
    std::vector<size_t> ends;
    for (size_t at = end; at > 0; at -= best[at].length) ends.push_back(at);
    std::reverse(ends.begin(), ends.end());
    for (const size_t at : ends) output.piece(base + at - best[at].length, base + at, best[at].id);
  }

  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
    if (const auto found = vocabulary_.find(text); found != vocabulary_.end()) {
      return ids.push_back(found->second);
    }
    const size_t before = ids.size();
    for (size_t i = 0; byte_fallback_ && i < text.size(); ++i) {
      const auto found = vocabulary_.find(byte_token(static_cast<unsigned char>(text[i])));
      if (found == vocabulary_.end()) {
        ids.resize(before);
        break;
      }
      ids.push_back(found->second);
    }
    if (ids.size() == before) ids.push_back(unknown_);
  }

  ByteTrie trie_;
  std::vector<double> scores_;
  double unknown_score_ = 0;
  int32_t unknown_ = -1;
  bool byte_fallback_ = false;
};

}  // namespace

std::unique_ptr<TokenModel> read_unigram(const JsonEntry& entry) {
  return std::make_unique<Unigram>(entry);
}

}  // namespace tutti
