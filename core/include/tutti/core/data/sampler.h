#pragma once

#include <tutti/core/random.h>

#include <cstdint>
#include <vector>

namespace tutti {

/// A pseudo-random permutation of 0 .. size - 1 that is computed entry by entry, not stored: a Feistel
/// network on a rectangle just larger than `size`, with cycle walking. Source: Black & Rogaway 2002, "Ciphers
/// with arbitrary finite domains".
class Permutation {
 public:
  /// `key.sample` is not used.
  Permutation(int64_t size, RandomKey key);
  /// The image of `i` in 0 .. size - 1.
  [[nodiscard]] int64_t operator()(int64_t i) const;

 private:
  int64_t size_, columns_, rows_;
  RandomKey key_;
};

/// Order of the samples within an epoch.
enum class SampleOrder : uint8_t { kShuffled, kSequential };

/// The global cursor: which samples make up the global batch of each step. A pure function of seed, sizes and
/// step, so it is the same on every rank, for every number of ranks, and after a resume.
///
/// Each epoch is a pass over all samples. The last batch of an epoch is shorter when the batch size does not
/// divide the number of samples: nothing is dropped, and no batch spans two epochs.
class Sampler {
 public:
  /// Throws Error unless size and batch are positive.
  Sampler(int64_t size, int64_t batch, SampleOrder order, uint64_t seed);

  [[nodiscard]] int64_t size() const noexcept { return size_; }
  [[nodiscard]] int64_t batch() const noexcept { return batch_; }
  [[nodiscard]] uint64_t seed() const noexcept { return seed_; }
  [[nodiscard]] int64_t steps_per_epoch() const noexcept { return (size_ - 1) / batch_ + 1; }
  /// The epoch, from 0, that `step` belongs to.
  [[nodiscard]] int64_t epoch_of(int64_t step) const noexcept { return step / steps_per_epoch(); }
  /// Passes over the data when `step` begins.
  [[nodiscard]] double epochs(int64_t step) const noexcept;
  /// Samples read before `step` begins: the global data cursor.
  [[nodiscard]] int64_t next_sample(int64_t step) const noexcept;
  /// Samples in the global batch of `step`.
  [[nodiscard]] int64_t samples(int64_t step) const noexcept;
  /// Ids of samples [begin, end) of the global batch of `step`, in order.
  [[nodiscard]] std::vector<int64_t> ids(int64_t step, int64_t begin, int64_t end) const;
  [[nodiscard]] std::vector<int64_t> ids(int64_t step) const { return ids(step, 0, samples(step)); }

 private:
  int64_t size_, batch_;
  SampleOrder order_;
  uint64_t seed_;
};

}  // namespace tutti
