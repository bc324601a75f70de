#pragma once

#include <tutti/core/data/dataset.h>
#include <tutti/core/data/sampler.h>
#include <tutti/core/train/parallel.h>

#include <functional>
#include <limits>
#include <memory>

namespace tutti {

struct LoaderOptions {
  /// Ranges of a step's global batch of `samples` samples that this rank needs, one a microbatch, in order.
  /// Called from the loader's thread: a pure function.
  std::function<std::vector<Parallel::Shard>(int64_t step, int64_t samples)> ranges;
  int64_t first_step = 0;
  /// No step at or behind this one is read.
  int64_t end_step = std::numeric_limits<int64_t>::max();
  /// Steps that are kept ready, at least 2.
  int64_t ahead = 2;
  /// Threads that read; 1 is the loader's own.
  int threads = 1;
  /// Where the batches shall be. To a CUDA device they are copied through page-locked memory on a stream of
  /// the loader's own while earlier steps run; Batch::use_on makes a stream wait for them.
  Device device;
};

/// LoaderOptions::ranges of this rank: its shards, cut into microbatches. `parallel` outlives the result.
std::function<std::vector<Parallel::Shard>(int64_t step, int64_t samples)> local_ranges(
    const Parallel& parallel, int64_t microbatch);

/// Reads the batches of coming steps on a thread of its own. What it delivers depends on data set, sampler
/// and step alone; ranges only choose the part.
class Loader final : public BatchSource {
 public:
  Loader(std::shared_ptr<const Dataset> data, Sampler sampler, LoaderOptions options);
  /// Stops reading, at once or after the sample that is being read.
  ~Loader() override;
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  [[nodiscard]] int64_t samples(int64_t step) const override;
  [[nodiscard]] double predictions(int64_t step) const override;
  [[nodiscard]] double epoch(int64_t step) const override;
  [[nodiscard]] bool has_next() override;
  bool wait(double most_s) override;
  /// The batches of the next step, one for each range. Rethrows what reading threw, now and at every later
  /// call; throws Error behind the end.
  std::vector<Batch> next() override;

  /// Seconds that next() has waited for data in all.
  [[nodiscard]] double waited_s() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tutti
