#pragma once

#include <tutti/core/dtype.h>
#include <tutti/core/random.h>
#include "kernels/row/team.h"

#include <array>

namespace tutti::row {

/// Elements whose 24 random bits are at least `threshold` are kept.
struct DropoutRule {
  uint32_t threshold;  ///< p * 2^24, rounded up
  float scale;         ///< 1 / (1 - p)
};

/// The rounds of philox() on 64-bit lanes, of which only the lower halves are used: a 64-bit product stays in
/// its lane, and shifts, not shuffles, extract its halves. Unrolled, so that the compiler vectorises the loop
/// around it.
template <int kRounds>
HOST_DEVICE inline void philox_lanes(std::array<uint64_t, 4>& c, std::array<uint32_t, 2> key) {
  if constexpr (kRounds > 0) {
    const uint64_t a = uint64_t{static_cast<uint32_t>(c[0])} * 0xD2511F53U;
    const uint64_t b = uint64_t{static_cast<uint32_t>(c[2])} * 0xCD9E8D57U;
    c = {(b >> 32) ^ c[1] ^ key[0], b, (a >> 32) ^ c[3] ^ key[1], a};
    philox_lanes<kRounds - 1>(c, {key[0] + 0x9E3779B9U, key[1] + 0xBB67AE85U});
  }
}

/// y = x * scale or 0 for `n` elements of a sample, from element 4 * first_block; y may be x. `key` is that
/// of the sample. Random words are computed for 64 blocks at a time, so that the rounds of Philox are
/// vectorised.
template <class Team, class T>
HOST_DEVICE void dropout(Team& t, const T* x, T* y, int64_t n, uint64_t first_block, const RandomKey& key,
                         DropoutRule rule) {
  using A = Accumulate<T>;
  constexpr int64_t kBlocks = 64;
  uint32_t words[4 * kBlocks];
  const std::array<uint32_t, 2> philox_key = key.philox_key();
  for (int64_t begin = t.lane() * 4 * kBlocks; begin < n; begin += t.lanes() * 4 * kBlocks) {
    const uint64_t block = first_block + static_cast<uint64_t>(begin) / 4;
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < kBlocks; ++i) {
      const auto counter = key.counter(block + static_cast<uint64_t>(i));
      std::array<uint64_t, 4> c = {counter[0], counter[1], counter[2], counter[3]};
      philox_lanes<10>(c, philox_key);
      words[4 * i] = static_cast<uint32_t>(c[0]);
      words[4 * i + 1] = static_cast<uint32_t>(c[1]);
      words[4 * i + 2] = static_cast<uint32_t>(c[2]);
      words[4 * i + 3] = static_cast<uint32_t>(c[3]);
    }
    const int64_t count = n - begin < 4 * kBlocks ? n - begin : 4 * kBlocks;
    INDEPENDENT_LOOP
    for (int64_t i = 0; i < count; ++i) {
      y[begin + i] = T((words[i] >> 8) >= rule.threshold ? A(x[begin + i]) * A(rule.scale) : A(0));
    }
  }
}

}  // namespace tutti::row
