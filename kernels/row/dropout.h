#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/random.h>
#include <tutti/kernels/row/team.h>

namespace tutti::row {

/// Which elements survive: those whose 24 random bits are at least `threshold`.
struct DropoutRule {
  uint32_t threshold;  ///< p * 2^24, rounded up
  float scale;         ///< 1 / (1 - p)
};

/// y = x * scale or 0 for elements 4 * first_block .. of a sample; y may be x. `n` elements, `key` of the
/// sample. Words for 64 blocks at a time, so that the rounds of Philox run in vector lanes.
template <class Team, class T>
HOST_DEVICE void dropout(Team& t, const T* x, T* y, int64_t n, uint64_t first_block, const RandomKey& key,
                         DropoutRule rule) {
  using A = Accumulate<T>;
  constexpr int64_t kBlocks = 64;
  uint32_t words[4 * kBlocks];
  for (int64_t begin = t.lane() * 4 * kBlocks; begin < n; begin += t.lanes() * 4 * kBlocks) {
    const uint64_t block = first_block + static_cast<uint64_t>(begin) / 4;
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < kBlocks; ++i) {
      const auto four = key.words(block + static_cast<uint64_t>(i));
      words[4 * i] = four[0];
      words[4 * i + 1] = four[1];
      words[4 * i + 2] = four[2];
      words[4 * i + 3] = four[3];
    }
    const int64_t count = n - begin < 4 * kBlocks ? n - begin : 4 * kBlocks;
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < count; ++i) {
      y[begin + i] = T((words[i] >> 8) >= rule.threshold ? A(x[begin + i]) * A(rule.scale) : A(0));
    }
  }
}

}  // namespace tutti::row
