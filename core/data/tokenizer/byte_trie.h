#pragma once

#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

namespace tutti {

/// A trie that maps texts to numbers, for prefix matching: nodes in a table by parent and byte.
class ByteTrie {
 public:
  /// Replaces an earlier value of the same text.
  void put(std::string_view text, int32_t value) {
    int32_t node = 0;
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      int32_t next = child(node, byte);
      if (next < 0) {
        next = static_cast<int32_t>(values_.size());
        values_.push_back(-1);
        if (2 * values_.size() > slots_.size()) grow();
        insert({key(node, byte), next});
      }
      node = next;
    }
    values_[static_cast<size_t>(node)] = value;
  }

  static constexpr int32_t kRoot = 0;
  /// -1 if there is none.
  [[nodiscard]] int32_t child(int32_t node, unsigned char byte) const {
    const uint64_t wanted = key(node, byte);
    for (size_t i = first_slot(wanted);; i = (i + 1) & (slots_.size() - 1)) {
      if (slots_[i].node < 0) return -1;
      if (slots_[i].key == wanted) return slots_[i].node;
    }
  }
  /// -1 if no text ends there.
  [[nodiscard]] int32_t value(int32_t node) const { return values_[static_cast<size_t>(node)]; }

 private:
  struct Slot {
    uint64_t key = 0;
    int32_t node = -1;
  };
  static uint64_t key(int32_t node, unsigned char byte) {
    return static_cast<uint64_t>(static_cast<uint32_t>(node)) << 8 | byte;
  }
  [[nodiscard]] size_t first_slot(uint64_t k) const {
    return (k * 0x9E3779B97F4A7C15ULL >> 24) & (slots_.size() - 1);
  }
  void insert(Slot slot) {
    size_t i = first_slot(slot.key);
    while (slots_[i].node >= 0) i = (i + 1) & (slots_.size() - 1);
    slots_[i] = slot;
  }
  void grow() {
    std::vector<Slot> old(4 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.node >= 0) insert(slot);
    }
  }
  std::vector<Slot> slots_ = std::vector<Slot>(64);
  std::vector<int32_t> values_ = {-1};
};

}  // namespace tutti
