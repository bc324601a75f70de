#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace tutti {

/// The result of merging a pair of adjacent tokens.
struct Merge {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t rank = kNone;  ///< lower merges first
  int32_t id = -1;
};

/// Merges by their pair: open addressing, as the encoder does about twenty look-ups per word.
class MergeTable {
 public:
  explicit MergeTable(size_t merges) : slots_(std::bit_ceil(2 * merges + 2)) {}

  /// Replaces an earlier merge of the same pair.
  void put(int32_t left, int32_t right, Merge merge) {
    slots_[find_slot(key(left, right))] = {key(left, right), merge};
  }
  /// Rank kNone if there is no merge.
  [[nodiscard]] Merge find(int32_t left, int32_t right) const {
    return slots_[find_slot(key(left, right))].merge;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  [[nodiscard]] size_t find_slot(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t i = (key * 0x9E3779B97F4A7C15ULL >> 20) & mask;
    while (slots_[i].merge.id >= 0 && slots_[i].key != key) i = (i + 1) & mask;
    return i;
  }
  std::vector<Slot> slots_;
};

/// Merges the pairs of a word, lowest rank first, then leftmost, and appends the remaining tokens to `out`.
/// `word` is overwritten. O(n log n); no allocation for short words.
void merge_pairs(const MergeTable& merges, std::span<int32_t> word, std::vector<int32_t>& out);

}  // namespace tutti
