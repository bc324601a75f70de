#include "core/data/tokenizer/bpe_merges.h"
#include <tutti/core/error.h>

#include <array>
#include <queue>

namespace tutti {
namespace {

constexpr size_t kShortWord = 32;

/// Quadratic, but without allocation.
void merge_short(const MergeTable& merges, std::span<int32_t> ids, std::vector<int32_t>& out) {
  std::array<Merge, kShortWord> pairs;
  size_t n = ids.size();
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
  out.insert(out.end(), ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n));
}

/// A linked list of tokens and a heap of pairs.
class LongWord {
 public:
  LongWord(const MergeTable& merges, std::span<const int32_t> word) : merges_(merges), nodes_(word.size()) {
    const auto n = static_cast<uint32_t>(word.size());
    for (uint32_t i = 0; i < n; ++i) nodes_[i] = {word[i], i == 0 ? kEnd : i - 1, i + 1 == n ? kEnd : i + 1};
    std::vector<Pair> pairs;
    for (uint32_t i = 0; i + 1 < n; ++i) {
      const Merge merge = merges_.find(word[i], word[i + 1]);
      if (merge.rank != Merge::kNone) pairs.push_back({merge.rank, i, merge.id, word[i + 1]});
    }
    heap_ = std::priority_queue<Pair>(std::less<Pair>(), std::move(pairs));
  }

  void merge_into(std::vector<int32_t>& ids) {
    while (!heap_.empty()) {
      const Pair pair = heap_.top();
      heap_.pop();
      Node& left = nodes_[pair.position];
      // Stale pairs remain in the heap: one of their tokens has been merged.
      if (left.id == kGone || left.next == kEnd || nodes_[left.next].id != pair.right) continue;
      const Merge merge = merges_.find(left.id, pair.right);
      if (merge.rank != pair.rank || merge.id != pair.id) continue;
      Node& right = nodes_[left.next];
      left.id = pair.id;
      right.id = kGone;
      left.next = right.next;
      if (left.next != kEnd) {
        nodes_[left.next].previous = pair.position;
        offer(pair.position);
      }
      if (left.previous != kEnd) offer(left.previous);
    }
    for (uint32_t i = 0; i != kEnd; i = nodes_[i].next) ids.push_back(nodes_[i].id);
  }

 private:
  static constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();
  static constexpr int32_t kGone = -1;
  struct Node {
    int32_t id;
    uint32_t previous, next;
  };
  struct Pair {
    uint32_t rank, position;
    int32_t id, right;
    bool operator<(const Pair& other) const {  // the heap's top is its largest
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  void offer(uint32_t position) {
    const int32_t right = nodes_[nodes_[position].next].id;
    const Merge merge = merges_.find(nodes_[position].id, right);
    if (merge.rank != Merge::kNone) heap_.push({merge.rank, position, merge.id, right});
  }

  const MergeTable& merges_;
  std::vector<Node> nodes_;
  std::priority_queue<Pair> heap_;
};

}  // namespace

void merge_pairs(const MergeTable& merges, std::span<int32_t> word, std::vector<int32_t>& out) {
  if (word.size() <= kShortWord) return merge_short(merges, word, out);
  require(word.size() < std::numeric_limits<uint32_t>::max(), "a word of {} tokens is too long", word.size());
  LongWord(merges, word).merge_into(out);
}

}  // namespace tutti
