#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace tutti {

/// Philox4x32-10. Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53U} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

/// 64-bit FNV-1a: identifies a tensor or call site by its path, equally on every rank and in every run.
constexpr uint64_t stable_hash(std::string_view text) {
  uint64_t h = 0xcbf29ce484222325ULL;
  for (const char c : text) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return h;
}

/// The key of random numbers. There is no state: the same key and index give the same bits on every rank, for
/// every world size, and in a recomputed forward pass.
struct RandomKey {
  uint64_t seed = 0;    ///< of the run
  uint64_t tensor = 0;  ///< stable_hash of the parameter's or call site's path
  uint64_t step = 0;    ///< optimizer step; 0 for initial values
  uint64_t sample = 0;  ///< position of the sample in the global batch; 0 where there is none

  /// Four words for elements 4 * block .. 4 * block + 3.
  [[nodiscard]] constexpr std::array<uint32_t, 4> words(uint64_t block) const {
    return philox(counter(block), philox_key());
  }
  /// The counter that words() passes to philox, for kernels that run its rounds in vector lanes.
  [[nodiscard]] constexpr std::array<uint32_t, 4> counter(uint64_t block) const {
    // 40 bits each of block, sample and step.
    const auto high = static_cast<uint32_t>(((block >> 32) & 0xff) | (((sample >> 32) & 0xff) << 8) |
                                            (((step >> 32) & 0xff) << 16));
    return {static_cast<uint32_t>(block), static_cast<uint32_t>(sample), static_cast<uint32_t>(step), high};
  }
  /// Seed and tensor, mixed (splitmix64's finaliser).
  [[nodiscard]] constexpr std::array<uint32_t, 2> philox_key() const {
    uint64_t k = seed + 0x9E3779B97F4A7C15ULL * (tensor | 1U) + tensor;
    k = (k ^ (k >> 30)) * 0xBF58476D1CE4E5B9ULL;
    k = (k ^ (k >> 27)) * 0x94D049BB133111EBULL;
    k ^= k >> 31;
    return {static_cast<uint32_t>(k), static_cast<uint32_t>(k >> 32)};
  }
};

/// Uniform in [0, 1) with 24 bits.
constexpr float uniform(uint32_t word) {
  return static_cast<float>(word >> 8) * 0x1.0p-24F;
}

/// Two standard normal numbers from two words (Box and Muller 1958).
std::array<float, 2> normal_pair(uint32_t a, uint32_t b);

}  // namespace tutti
