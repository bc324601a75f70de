#pragma once

#include <tutti/core/data/tokenizer.h>
#include <tutti/core/thread_pool.h>

#include <array>
#include <bit>
#include <limits>
#include <unordered_map>

namespace tutti {

/// What a pair of adjacent tokens becomes.
struct Merge {
  static constexpr uint32_t kNone = std::numeric_limits<uint32_t>::max();
  uint32_t rank = kNone;  ///< lower merges first
  int32_t id = -1;
};

/// Merges by their pair: open addressing, since the encoder asks some twenty times a word.
class MergeTable {
 public:
  explicit MergeTable(size_t merges) : slots_(std::bit_ceil(2 * merges + 2)) {}

  /// False if the pair stands there already.
  bool insert(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[find_slot(key(left, right))];
    if (slot.merge.id >= 0) return false;
    slot = {key(left, right), merge};
    return true;
  }
  /// Rank kNone if the pair does not merge.
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

/// Finds added tokens in text.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(const std::vector<AddedToken>& tokens);

  /// Calls `plain(section)` for the text between added tokens (never empty) and `token(id)` for each of them,
  /// in order. The leftmost is taken first, the longest of several; normalized ones are looked for in what
  /// the others leave.
  void split(std::string_view text, FunctionRef<void(std::string_view)> plain,
             FunctionRef<void(int32_t)> token) const;

 private:
  /// Tokens that are looked for together, longest first.
  struct Group {
    std::vector<AddedToken> tokens;
    std::array<bool, 256> first_byte{};

    void add(const AddedToken& token);
    void split(std::string_view text, FunctionRef<void(std::string_view)> plain,
               FunctionRef<void(int32_t)> token) const;
  };
  Group before_, after_;
};

/// What encoding and decoding look up.
struct Tokenizer::Tables {
  Tables(BpeModel model, const std::string& name);

  BpeModel model;
  std::array<int32_t, 256> byte_ids{};
  MergeTable merges;
  AddedTokenFinder finder;
  std::unordered_map<std::string_view, int32_t> words;  ///< tokens by bytes, for ignore_merges
  std::string digest;
};

}  // namespace tutti
