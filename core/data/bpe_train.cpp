#include <tutti/core/data/bpe_train.h>
#include <tutti/core/data/split.h>
#include <tutti/core/data/tokenizer/added_tokens.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <mutex>
#include <queue>
#include <unordered_map>

namespace tutti {
namespace {

constexpr size_t kLongestWord = 1024;
constexpr size_t kSectionBytes = size_t{1} << 20;

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using WordCounts = std::unordered_map<std::string, int64_t, StringHash, std::equal_to<>>;

void count_words(std::string_view text, const AddedTokenFinder& specials, WordCounts& counts) {
  const auto plain = [&](std::string_view section) {
    for (size_t begin = 0; begin < section.size();) {
      const size_t end = word_end(section, begin);
      const std::string_view word = section.substr(begin, end - begin);
      begin = end;
      if (word.size() < 2 || word.size() > kLongestWord) continue;
      if (const auto found = counts.find(word); found != counts.end()) {
        ++found->second;
      } else {
        counts.emplace(word, 1);
      }
    }
  };
  specials.split(text, plain, [](int32_t) {});
}

/// Sums are the same in any order, so sections may be counted on any thread.
WordCounts count_words(std::span<const std::string_view> texts, const AddedTokenFinder& specials,
                       ThreadPool& pool) {
  std::vector<std::string_view> sections;
  for (const std::string_view text : texts) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = cut_point(text, std::min(begin + kSectionBytes, text.size()));
      sections.push_back(text.substr(begin, end - begin));
      begin = end;
    }
  }
  WordCounts all;
  std::mutex mutex;
  pool.parallel_for(static_cast<int64_t>(sections.size()), [&](int64_t i) {
    WordCounts counts;
    count_words(sections[static_cast<size_t>(i)], specials, counts);
    const std::scoped_lock lock(mutex);
    for (const auto& [word, count] : counts) all[word] += count;
  });
  return all;
}

/// Counts of adjacent pairs, kept up to date while pairs merge.
class PairCounts {
 public:
  explicit PairCounts(const WordCounts& counts) {
    words_.reserve(counts.size());
    for (const auto& [text, count] : counts) {
      Word& word = words_.emplace_back();
      word.count = count;
      word.ids.assign(text.size(), 0);
      for (size_t i = 0; i < text.size(); ++i) word.ids[i] = static_cast<unsigned char>(text[i]);
      for (size_t i = 0; i + 1 < word.ids.size(); ++i) add(word.ids[i], word.ids[i + 1], words_.size() - 1);
    }
    for (const auto& [key, pair] : pairs_) heap_.push({pair.count, key});
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
    for (const uint32_t w : places) {
      Word& word = words_[w];
      if (!contains(word.ids, left, right)) continue;  // was named twice, or merged otherwise since
      for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
        const uint64_t k = key(word.ids[i], word.ids[i + 1]);
        pairs_[k].count -= word.count;
        changed_.push_back(k);
      }
      replace(word.ids, left, right, id);
      for (size_t i = 0; i + 1 < word.ids.size(); ++i) {
        const uint64_t k = key(word.ids[i], word.ids[i + 1]);
        Pair& pair = pairs_[k];
        pair.count += word.count;
        const bool fresh = word.ids[i] == id || word.ids[i + 1] == id;
        if (fresh && (pair.words.empty() || pair.words.back() != w)) pair.words.push_back(w);
        changed_.push_back(k);
      }
    }
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const uint64_t k : changed_) {
      const auto pair = pairs_.find(k);
      if (pair->second.count > 0)
        heap_.push({pair->second.count, k});
      else
        pairs_.erase(pair);
    }
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

  static bool contains(const std::vector<int32_t>& ids, int32_t left, int32_t right) {
    for (size_t i = 0; i + 1 < ids.size(); ++i) {
      if (ids[i] == left && ids[i + 1] == right) return true;
    }
    return false;
  }
  static void replace(std::vector<int32_t>& ids, int32_t left, int32_t right, int32_t id) {
    size_t out = 0;
    for (size_t i = 0; i < ids.size(); ++out) {
      const bool pair = i + 1 < ids.size() && ids[i] == left && ids[i + 1] == right;
      ids[out] = pair ? id : ids[i];
      i += pair ? 2 : 1;
    }
    ids.resize(out);
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
  PairCounts pairs(count_words(texts, AddedTokenFinder(model.added), pool));
  const int64_t most = options.vocabulary - specials;
  while (static_cast<int64_t>(model.tokens.size()) < most) {
    const PairCounts::Best best = pairs.best();
    if (best.count < std::max<int64_t>(1, options.min_count)) break;
    std::string joined =
        model.tokens[static_cast<size_t>(best.left)] + model.tokens[static_cast<size_t>(best.right)];
    // Different pairs can make the same bytes (a+bc, ab+c): then that token gets one more merge.
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
  if (options.progress) options.progress(static_cast<int64_t>(model.tokens.size()), options.vocabulary);
  return Tokenizer(std::move(model), "trained tokenizer");
}

}  // namespace tutti
