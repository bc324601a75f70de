#include <tutti/core/data/bpe_tables.h>
#include <tutti/core/data/split.h>
#include <tutti/core/data/tokenizer.h>

#include <algorithm>
#include <cstring>
#include <queue>

namespace tutti {
namespace {

constexpr size_t kShortWord = 31;  // bytes: with its length a word is half a cache line
constexpr size_t kCachedIds = 8;
constexpr size_t kMostSlots = size_t{1} << 15;
constexpr size_t kFewestSlots = 64;
constexpr size_t kProbes = 4;

/// A word of at most kShortWord bytes, zero-padded, its length in the last byte.
struct WordKey {
  std::array<uint64_t, 4> words{};

  friend bool operator==(const WordKey& a, const WordKey& b) {
    return ((a.words[0] ^ b.words[0]) | (a.words[1] ^ b.words[1]) | (a.words[2] ^ b.words[2]) |
            (a.words[3] ^ b.words[3])) == 0;
  }
  [[nodiscard]] size_t hash() const {
    uint64_t h = words[0] * 0x9E3779B97F4A7C15ULL;
    h = (h ^ (h >> 32) ^ words[1]) * 0xBF58476D1CE4E5B9ULL;
    h = (h ^ (h >> 32) ^ words[2]) * 0x94D049BB133111EBULL;
    h = (h ^ (h >> 32) ^ words[3]) * 0x9E3779B97F4A7C15ULL;
    return h >> 40;
  }
};

struct alignas(64) CacheEntry {
  WordKey key;                            // all zero: empty, since no word has length 0
  std::array<int32_t, kCachedIds> ids{};  // -1 behind the last
};

constexpr auto kKeyMasks = [] {
  std::array<std::array<uint64_t, 4>, kShortWord + 1> masks{};
  for (size_t length = 0; length <= kShortWord; ++length) {
    for (size_t i = 0; i < 4; ++i) {
      const size_t bytes = length > 8 * i ? std::min<size_t>(length - 8 * i, 8) : 0;
      masks[length][i] = bytes == 8 ? ~uint64_t{0} : (uint64_t{1} << (8 * bytes)) - 1;
    }
  }
  return masks;
}();
static_assert(std::endian::native == std::endian::little,
              "word keys are laid out for little-endian machines");

WordKey word_key(std::string_view text, size_t begin, size_t length) {
  WordKey key;
  if (begin + sizeof key <= text.size()) {
    std::memcpy(key.words.data(), text.data() + begin, sizeof key);
    for (size_t i = 0; i < 4; ++i) key.words[i] &= kKeyMasks[length][i];
  } else {
    std::memcpy(key.words.data(), text.data() + begin, length);
  }
  key.words[3] |= static_cast<uint64_t>(length) << 56;
  return key;
}

/// Merges the pairs of a short word, the lowest rank first and of equal ones the leftmost: quadratic, but
/// without allocation.
size_t merge_short(const MergeTable& merges, std::array<int32_t, kShortWord>& ids, size_t n) {
  std::array<Merge, kShortWord> pairs;
  for (size_t i = 0; i + 1 < n; ++i) pairs[i] = merges.find(ids[i], ids[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (pairs[i].rank < pairs[best].rank) best = i;
    }
    if (pairs[best].rank == Merge::kNone) break;
    ids[best] = pairs[best].id;
    --n;
    for (size_t i = best + 1; i < n; ++i) {
      ids[i] = ids[i + 1];
      if (i + 1 < n) pairs[i] = pairs[i + 1];
    }
    if (best > 0) pairs[best - 1] = merges.find(ids[best - 1], ids[best]);
    if (best + 1 < n) pairs[best] = merges.find(ids[best], ids[best + 1]);
  }
  return n;
}

/// The same for words of any length in O(n log n): a linked list of tokens and a heap of pairs.
class LongWord {
 public:
  LongWord(const MergeTable& merges, std::string_view word, const std::array<int32_t, 256>& byte_ids)
      : merges_(merges), nodes_(word.size()) {
    for (size_t i = 0; i < word.size(); ++i) {
      nodes_[i] = {byte_ids[static_cast<unsigned char>(word[i])], i == 0 ? kEnd : i - 1,
                   i + 1 == word.size() ? kEnd : i + 1};
    }
    for (size_t i = 0; i + 1 < word.size(); ++i) offer(i);
  }

  void merge_into(std::vector<int32_t>& ids) {
    while (!heap_.empty()) {
      const Pair pair = heap_.top();
      heap_.pop();
      Node& left = nodes_[pair.position];
      // Stale pairs stay in the heap: one of their tokens has been merged since.
      if (left.id != pair.left || left.next == kEnd || nodes_[left.next].id != pair.right) continue;
      Node& right = nodes_[left.next];
      left.id = pair.merge.id;
      right.id = kGone;
      left.next = right.next;
      if (left.next != kEnd) {
        nodes_[left.next].previous = pair.position;
        offer(pair.position);
      }
      if (left.previous != kEnd) offer(left.previous);
    }
    for (size_t i = 0; i != kEnd; i = nodes_[i].next) ids.push_back(nodes_[i].id);
  }

 private:
  static constexpr size_t kEnd = std::numeric_limits<size_t>::max();
  static constexpr int32_t kGone = -1;
  struct Node {
    int32_t id;
    size_t previous, next;
  };
  struct Pair {
    Merge merge;
    size_t position;
    int32_t left, right;
    bool operator<(const Pair& other) const {  // the heap's top is its largest
      return merge.rank != other.merge.rank ? merge.rank > other.merge.rank : position > other.position;
    }
  };
  void offer(size_t position) {
    const int32_t left = nodes_[position].id;
    const int32_t right = nodes_[nodes_[position].next].id;
    const Merge merge = merges_.find(left, right);
    if (merge.rank != Merge::kNone) heap_.push({merge, position, left, right});
  }

  const MergeTable& merges_;
  std::vector<Node> nodes_;
  std::priority_queue<Pair> heap_;
};

}  // namespace

struct TokenEncoder::State {
  Tokenizer tokenizer;
  std::vector<CacheEntry> cache;  // a power of two of them

  [[nodiscard]] const Tokenizer::Tables& tables() const { return *tokenizer.tables_; }

  void plain(std::string_view text, std::vector<int32_t>& ids) {
    const Tokenizer::Tables& t = tables();
    if (t.model.merges.empty() && !t.model.ignore_merges) {
      for (const char c : text) ids.push_back(t.byte_ids[static_cast<unsigned char>(c)]);
      return;
    }
    if (!t.model.split) {
      word(text, 0, text.size(), ids);
      return;
    }
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = word_end(text, begin);
      word(text, begin, end - begin, ids);
      begin = end;
    }
  }

  void word(std::string_view text, size_t begin, size_t length, std::vector<int32_t>& ids) {
    const Tokenizer::Tables& t = tables();
    if (length > kShortWord) {
      const std::string_view bytes = text.substr(begin, length);
      if (!whole(bytes, ids)) LongWord(t.merges, bytes, t.byte_ids).merge_into(ids);
      return;
    }
    const WordKey key = word_key(text, begin, length);
    const size_t mask = cache.size() - 1;
    const size_t home = key.hash() & mask;
    size_t slot = home;  // taken over if none of the places is free
    for (size_t i = 0; i < kProbes; ++i) {
      CacheEntry& entry = cache[(home + i) & mask];
      if (entry.key == key) {
        for (size_t k = 0; k < kCachedIds && entry.ids[k] >= 0; ++k) ids.push_back(entry.ids[k]);
        return;
      }
      if (entry.key.words[3] == 0) {
        slot = (home + i) & mask;
        break;
      }
    }
    const size_t before = ids.size();
    if (!whole(text.substr(begin, length), ids)) {
      std::array<int32_t, kShortWord> symbols{};
      for (size_t i = 0; i < length; ++i) {
        symbols[i] = t.byte_ids[static_cast<unsigned char>(text[begin + i])];
      }
      const size_t n = merge_short(t.merges, symbols, length);
      ids.insert(ids.end(), symbols.begin(), symbols.begin() + static_cast<std::ptrdiff_t>(n));
    }
    const size_t count = ids.size() - before;
    if (count <= kCachedIds) {
      CacheEntry& entry = cache[slot];
      entry.key = key;
      for (size_t k = 0; k < kCachedIds; ++k) entry.ids[k] = k < count ? ids[before + k] : -1;
    }
  }

  /// With ignore_merges: the word as one token, if it is one.
  bool whole(std::string_view bytes, std::vector<int32_t>& ids) const {
    if (!tables().model.ignore_merges) return false;
    const auto found = tables().words.find(bytes);
    if (found == tables().words.end()) return false;
    ids.push_back(found->second);
    return true;
  }
};

TokenEncoder::TokenEncoder(Tokenizer tokenizer, size_t expected_bytes) {
  const size_t slots = std::bit_ceil(std::clamp(expected_bytes / 4, kFewestSlots, kMostSlots));
  state_ = std::make_unique<State>(State{std::move(tokenizer), std::vector<CacheEntry>(slots)});
}
TokenEncoder::~TokenEncoder() = default;
TokenEncoder::TokenEncoder(TokenEncoder&&) noexcept = default;
TokenEncoder& TokenEncoder::operator=(TokenEncoder&&) noexcept = default;

void TokenEncoder::encode(std::string_view text, std::vector<int32_t>& ids, AddedTokens added) {
  const auto plain = [&](std::string_view section) { state_->plain(section, ids); };
  if (added == AddedTokens::kAsText) {
    plain(text);
    return;
  }
  state_->tables().finder.split(text, plain, [&](int32_t id) { ids.push_back(id); });
}

}  // namespace tutti
