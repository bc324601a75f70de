#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/data/sampler.h>
#include <tutti/core/train/parallel.h>

#include <functional>
#include <limits>
#include <memory>

namespace tutti {

struct LoaderOptions {
  /// Ranges of a step's global batch of `samples` samples that this rank needs, one per microbatch, in order.
  /// Called from the loader's thread: a pure function.
  std::function<std::vector<Parallel::Shard>(int64_t step, int64_t samples)> ranges;
  int64_t first_step = 0;
  /// Steps from this one on are not read.
  int64_t end_step = std::numeric_limits<int64_t>::max();
  /// Number of steps to prefetch, at least 2.
  int64_t ahead = 2;
  /// Number of reading threads; 1: only the loader's thread.
  int threads = 1;
  /// Device of the batches. To a CUDA device they are copied through page-locked memory on a separate stream
  /// while earlier steps run; Batch::use_on makes a stream wait for them.
  Device device;
};

/// LoaderOptions::ranges of this rank: its shards, divided into microbatches. `parallel` outlives the result.
std::function<std::vector<Parallel::Shard>(int64_t step, int64_t samples)> local_ranges(
    const Parallel& parallel, int64_t microbatch);

/// Prefetches the batches of the next steps on a separate thread. Batches depend only on data set, sampler
/// and step; ranges select the part.
class Loader final : public BatchSource {
 public:
  Loader(std::shared_ptr<const Dataset> data, Sampler sampler, LoaderOptions options);
  /// Stops reading, immediately or after the current sample.
  ~Loader() override;
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  [[nodiscard]] int64_t samples(int64_t step) const override;
  [[nodiscard]] double predictions(int64_t step) const override;
  [[nodiscard]] double epoch(int64_t step) const override;
  [[nodiscard]] bool has_next() override;
  bool wait(double most_s) override;
  /// The batches of the next step, one for each range. Rethrows an exception of reading, at this and every
  /// later call; throws Error after the end.
  std::vector<Batch> next() override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tutti
