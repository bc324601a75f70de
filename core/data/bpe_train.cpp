#include <tutti/core/data/bpe_train.h>
#include <tutti/core/error.h>
#include "core/counted.h"
#include "core/data/prepare/bpe_words.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

namespace tutti {
namespace {

constexpr size_t kMostStale = size_t{1} << 20;

/// Counts of adjacent pairs, kept up to date while pairs merge.
class PairCounts {
 public:
  explicit PairCounts(const WordCounts::Map& counts) {
    words_.reserve(counts.size());
    for (const auto& [text, count] : counts) {
      Word& word = words_.emplace_back();
      word.count = count;
      word.ids.assign(text.size(), 0);
      for (size_t i = 0; i < text.size(); ++i) word.ids[i] = static_cast<unsigned char>(text[i]);
      for (size_t i = 0; i + 1 < word.ids.size(); ++i) add(word.ids[i], word.ids[i + 1], words_.size() - 1);
    }
    fill_heap();
  }

  struct Best {
    int32_t left = -1, right = -1;
    int64_t count = 0;
  };
  /// The pair to merge next; count 0 if there is none.
  Best best() {
    while (!heap_.empty()) {
      const Candidate top = heap_.top();
      const auto found = pairs_.find(top.key);
      const int64_t count = found == pairs_.end() ? 0 : found->second.count;
      if (count == top.count) return {left_of(top.key), right_of(top.key), count};
      heap_.pop();  // counts have changed since; a candidate with the new count is in the heap as well
    }
    return {};
  }

  void merge(int32_t left, int32_t right, int32_t id) {
    const auto found = pairs_.find(key(left, right));
    const std::vector<uint32_t> places = std::move(found->second.words);
    changed_.clear();
    for (const uint32_t w : places) merge_in(w, left, right, id);
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const uint64_t k : changed_) {
      const auto pair = pairs_.find(k);
      if (pair->second.count > 0)
        heap_.push({pair->second.count, k});
      else
        pairs_.erase(pair);
    }
    // Candidates whose counts have changed since stay in the heap until they come to its top.
    if (heap_.size() > 4 * pairs_.size() + kMostStale) fill_heap();
  }

 private:
  struct Word {
    std::vector<int32_t> ids;
    int64_t count = 0;
  };
  struct Pair {
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it may occur; some are out of date
  };
  struct Candidate {
    int64_t count;
    uint64_t key;
    bool operator<(const Candidate& other) const {  // the heap's top is its largest
      return count != other.count ? count < other.count : key > other.key;
    }
  };
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  static int32_t left_of(uint64_t key) { return static_cast<int32_t>(key >> 32); }
  static int32_t right_of(uint64_t key) { return static_cast<int32_t>(key & 0xffffffffU); }

  /// Merges the pair in one word, if the word still contains it: only the counts of adjacent pairs change.
  void merge_in(uint32_t w, int32_t left, int32_t right, int32_t id) {
    Word& word = words_[w];
    std::vector<int32_t>& ids = word.ids;
    const auto change = [&](int32_t a, int32_t b, int64_t times) {
      const uint64_t k = key(a, b);
      Pair& pair = pairs_[k];
      pair.count += times * word.count;
      if (times > 0 && (pair.words.empty() || pair.words.back() != w)) pair.words.push_back(w);
      changed_.push_back(k);
    };
    const auto is_pair = [&](size_t i) {
      return i + 1 < ids.size() && ids[i] == left && ids[i + 1] == right;
    };
    size_t out = 0;
    for (size_t i = 0; i < ids.size();) {
      if (!is_pair(i)) {
        ids[out++] = ids[i++];
        continue;
      }
      int64_t merges = 0;  // consecutive ones
      for (; is_pair(i); i += 2) ++merges;
      change(left, right, -merges);
      if (merges > 1) {
        change(right, left, 1 - merges);
        change(id, id, merges - 1);
      }
      if (out > 0) {
        change(ids[out - 1], left, -1);
        change(ids[out - 1], id, 1);
      }
      if (i < ids.size()) {
        change(right, ids[i], -1);
        change(id, ids[i], 1);
      }
      for (int64_t k = 0; k < merges; ++k) ids[out++] = id;
    }
    ids.resize(out);
  }
  void fill_heap() {
    std::vector<Candidate> all;
    all.reserve(pairs_.size());
    for (const auto& [key, pair] : pairs_) all.push_back({pair.count, key});
    heap_ = std::priority_queue<Candidate>({}, std::move(all));
  }
  void add(int32_t left, int32_t right, size_t word) {
    Pair& pair = pairs_[key(left, right)];
    pair.count += words_[word].count;
    const auto w = static_cast<uint32_t>(word);
    if (pair.words.empty() || pair.words.back() != w) pair.words.push_back(w);
  }

  std::vector<Word> words_;
  std::unordered_map<uint64_t, Pair> pairs_;
  std::priority_queue<Candidate> heap_;
  std::vector<uint64_t> changed_;
};

}  // namespace

std::vector<std::string> BpeTrainReport::notes() const {
  std::vector<std::string> all;
  if (learned < asked) {
    all.push_back(fmt::format(
        "learned {} tokens of {}: {}", grouped(learned), grouped(asked),
        min_count > 1 ? fmt::format("no more pairs of tokens occur {} times within words", min_count)
                      : "no more pairs of tokens are within words"));
  }
  const auto megabytes = [](int64_t bytes) { return static_cast<double>(bytes) / 1e6; };
  if (cut_words > 0) {
    all.push_back(fmt::format("{} longer than {} bytes ({:.1f} MB in all) and learned from in pieces",
                              counted(cut_words, "word was", "words were"), kLongestPiece,
                              megabytes(cut_bytes)));
  }
  if (kept_long_bytes < long_bytes) {
    all.push_back(
        fmt::format("of {:.1f} MB in words longer than {} bytes, a sample of {:.1f} MB was learned from",
                    megabytes(long_bytes), kLongPiece, megabytes(kept_long_bytes)));
  }
  return all;
}

Tokenizer train_bpe(std::span<const std::string_view> texts, const BpeTrainOptions& options,
                    ThreadPool& pool) {
  const auto specials = static_cast<int64_t>(options.special_tokens.size());
  require(
      options.vocabulary >= 256 + specials && options.vocabulary <= kMaxVocabulary,
      "train tokenizer: a vocabulary of {}; expected at least 256 bytes and {} special tokens, at most {}",
      options.vocabulary, specials, kMaxVocabulary);
  BpeModel model;
  std::unordered_map<std::string, int32_t> ids;
  for (int byte = 0; byte < 256; ++byte) {
    model.tokens.emplace_back(1, static_cast<char>(byte));
    ids.emplace(model.tokens.back(), byte);
  }
  for (const std::string& content : options.special_tokens) {
    require(!content.empty(), "train tokenizer: a special token is empty");
    model.added.push_back({.content = content});
  }
  BpeTrainReport report{.asked = options.vocabulary, .min_count = std::max<int64_t>(1, options.min_count)};
  PairCounts pairs = [&] {
    const WordCounts words = WordCounts::of(texts, AddedTokenFinder(model.added), pool);
    report.cut_words = words.cut_words();
    report.cut_bytes = words.cut_bytes();
    report.long_bytes = words.long_bytes();
    report.kept_long_bytes = words.kept_long_bytes();
    return PairCounts(words.counts());
  }();
  const int64_t most = options.vocabulary - specials;
  while (static_cast<int64_t>(model.tokens.size()) < most) {
    const PairCounts::Best best = pairs.best();
    if (best.count < report.min_count) break;
    std::string joined =
        model.tokens[static_cast<size_t>(best.left)] + model.tokens[static_cast<size_t>(best.right)];
    // Different pairs can give the same bytes (a+bc, ab+c): that token then has several merges.
    const auto [known, fresh] = ids.emplace(joined, static_cast<int32_t>(model.tokens.size()));
    if (fresh) model.tokens.push_back(std::move(joined));
    model.merges.emplace_back(best.left, best.right);
    pairs.merge(best.left, best.right, known->second);
    if (options.progress && model.tokens.size() % 256 == 0) {
      options.progress(static_cast<int64_t>(model.tokens.size()), options.vocabulary);
    }
  }
  for (AddedToken& token : model.added) {
    token.id = static_cast<int32_t>(model.tokens.size());
    model.tokens.push_back(token.content);
  }
  report.learned = static_cast<int64_t>(model.tokens.size());
  if (options.report != nullptr) *options.report = report;
  if (options.progress) options.progress(report.learned, options.vocabulary);
  return Tokenizer(std::move(model), "trained tokenizer");
}

}  // namespace tutti
