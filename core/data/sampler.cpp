#include <tutti/core/data/sampler.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

// Four are enough for large sets (Luby & Rackoff 1988); small ones, with few bits, need more.
constexpr uint64_t kRounds = 8;

}  // namespace

Permutation::Permutation(int64_t size, RandomKey key) : size_(size), columns_(1), rows_(1), key_(key) {
  require(size >= 1, "permutation: of {} elements", size);
  columns_ = static_cast<int64_t>(std::sqrt(static_cast<double>(size)));
  while (columns_ * columns_ < size) ++columns_;
  rows_ = (size + columns_ - 1) / columns_;
}

int64_t Permutation::operator()(int64_t i) const {
  require(i >= 0 && i < size_, "permutation: element {} of {}", i, size_);
  const auto shift = [&](uint64_t round, int64_t other, int64_t n) {
    RandomKey key = key_;
    key.sample = round;
    const auto words = key.words(static_cast<uint64_t>(other));
    return static_cast<int64_t>((static_cast<uint64_t>(words[0]) << 31 | words[1] >> 1) %
                                static_cast<uint64_t>(n));
  };
  // Each round adds to one coordinate a number that depends only on the other, so it is invertible: a
  // permutation of the rectangle. Repeating it until the result is below size_ follows one cycle, so the
  // whole is a permutation of 0 .. size_ - 1.
  do {
    int64_t column = i % columns_;
    int64_t row = i / columns_;
    for (uint64_t round = 0; round < kRounds; round += 2) {
      column = (column + shift(round, row, columns_)) % columns_;
      row = (row + shift(round + 1, column, rows_)) % rows_;
    }
    i = row * columns_ + column;
  } while (i >= size_);
  return i;
}

Sampler::Sampler(int64_t size, int64_t batch, SampleOrder order, uint64_t seed)
    : size_(size), batch_(batch), order_(order), seed_(seed) {
  require(size >= 1, "sampler: a data set of {} samples", size);
  require(batch >= 1, "sampler: a batch of {} samples", batch);
}

double Sampler::epochs(int64_t step) const noexcept {
  const int64_t within = step % steps_per_epoch() * batch_;
  return static_cast<double>(epoch_of(step)) + static_cast<double>(within) / static_cast<double>(size_);
}

int64_t Sampler::next_sample(int64_t step) const noexcept {
  return epoch_of(step) * size_ + step % steps_per_epoch() * batch_;
}

int64_t Sampler::samples(int64_t step) const noexcept {
  return std::min(batch_, size_ - step % steps_per_epoch() * batch_);
}

std::vector<int64_t> Sampler::ids(int64_t step, int64_t begin, int64_t end) const {
  require(step >= 0 && begin >= 0 && begin <= end && end <= samples(step),
          "sampler: samples [{}, {}) of step {} requested; its batch has {}", begin, end, step,
          step >= 0 ? samples(step) : 0);
  const int64_t first = step % steps_per_epoch() * batch_;
  const Permutation shuffle(
      size_,
      {.seed = seed_, .tensor = stable_hash("data.order"), .step = static_cast<uint64_t>(epoch_of(step))});
  std::vector<int64_t> all;
  all.reserve(static_cast<size_t>(end - begin));
  for (int64_t i = first + begin; i < first + end; ++i) {
    all.push_back(order_ == SampleOrder::kShuffled ? shuffle(i) : i);
  }
  return all;
}

}  // namespace tutti
