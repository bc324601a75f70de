#include <tutti/core/data/loader.h>
#include <tutti/core/error.h>
#include <tutti/core/memory/owner.h>
#include <tutti/core/train/evaluate.h>
#include "core/affinity.h"
#include "core/start_thread.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

namespace tutti {

struct Loader::State {
  std::shared_ptr<const Dataset> data;
  Sampler sampler;
  LoaderOptions options;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::vector<Batch>> ready;
  std::exception_ptr error;
  bool stop = false;
  bool ended = false;
  std::thread thread;  // last: starts after the other members are constructed

  State(std::shared_ptr<const Dataset> d, Sampler s, LoaderOptions o)
      : data(std::move(d)), sampler(s), options(std::move(o)) {}

  void work() {
    unbind_caller();
    try {
      ThreadPool pool(options.threads);
      const Stream stream = Stream::inline_on(pool);
      std::optional<Stream> upload;
      if (options.device.type == DeviceType::kCuda) upload = Stream::cuda(options.device.index);
      for (int64_t step = options.first_step; step < options.end_step; ++step) {
        {
          std::unique_lock lock(mutex);
          changed.wait(lock, [&] { return stop || static_cast<int64_t>(ready.size()) < options.ahead; });
        }
        std::vector<Batch> batches;
        for (const Parallel::Shard& range : options.ranges(step, sampler.samples(step))) {
          if (stopping()) return;
          batches.push_back(read(step, range, stream));
          if (upload) move_to_device(batches.back(), *upload);
        }
        const std::scoped_lock lock(mutex);
        if (stop) return;
        ready.push_back(std::move(batches));
        changed.notify_all();
      }
    } catch (...) {
      const std::scoped_lock lock(mutex);
      error = std::current_exception();
    }
    const std::scoped_lock lock(mutex);
    ended = true;
    changed.notify_all();
  }

  static void move_to_device(Batch& batch, const Stream& upload) {
    const MemoryOwner owner("batches");
    batch.inputs = batch.inputs.to(batch.inputs.dtype(), upload);
    batch.targets = batch.targets.to(batch.targets.dtype(), upload);
    batch.ready = upload.record();
  }

  bool stopping() {
    const std::scoped_lock lock(mutex);
    return stop;
  }

  [[nodiscard]] Batch read(int64_t step, const Parallel::Shard& range, const Stream& stream) const {
    const std::vector<int64_t> ids = sampler.ids(step, range.begin, range.end);
    require(!ids.empty(), "loader: an empty range at {} of step {}", range.begin, step);
    const AugmentKey key{sampler.seed(), static_cast<uint64_t>(sampler.epoch_of(step))};
    Batch batch = data->read(ids, key, stream);
    batch.first_sample = range.begin;
    return batch;
  }
};

std::function<std::vector<Parallel::Shard>(int64_t step, int64_t samples)> local_ranges(
    const Parallel& parallel, int64_t microbatch) {
  return [&parallel, microbatch](int64_t, int64_t samples) {
    std::vector<Parallel::Shard> flat;
    for (const auto& row : microbatches(parallel.shards(samples), microbatch)) {
      flat.insert(flat.end(), row.begin(), row.end());
    }
    return flat;
  };
}

Loader::Loader(std::shared_ptr<const Dataset> data, Sampler sampler, LoaderOptions options) {
  require(data != nullptr && sampler.size() == data->size(),
          "loader: a sampler of {} samples for a data set of {}", sampler.size(),
          data != nullptr ? data->size() : 0);
  require(
      options.ranges != nullptr && options.ahead >= 2 && options.threads >= 1 && options.first_step >= 0,
      "loader: needs ranges, at least 2 steps ahead (got {}), a thread (got {}) and a first step (got {})",
      options.ahead, options.threads, options.first_step);
  state_ = std::make_unique<State>(std::move(data), sampler, std::move(options));
  state_->thread = start_thread("loading data", [state = state_.get()] { state->work(); });
}

Loader::~Loader() {
  {
    const std::scoped_lock lock(state_->mutex);
    state_->stop = true;
    state_->changed.notify_all();
  }
  state_->thread.join();
}

int64_t Loader::samples(int64_t step) const {
  return state_->sampler.samples(step);
}

double Loader::predictions(int64_t step) const {
  int64_t sum = 0;
  for (const int64_t id : state_->sampler.ids(step)) sum += state_->data->predictions(id);
  return static_cast<double>(sum);
}

double Loader::epoch(int64_t step) const {
  return state_->sampler.epochs(step);
}

bool Loader::has_next() {
  const std::scoped_lock lock(state_->mutex);
  return !state_->ready.empty();
}

bool Loader::wait(double most_s) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  const auto settled = [&] { return !s.ready.empty() || s.ended; };
  return s.changed.wait_for(lock, std::chrono::duration<double>(most_s), settled);
}

std::vector<Batch> Loader::next() {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  s.changed.wait(lock, [&] { return !s.ready.empty() || s.ended; });
  if (s.ready.empty()) {
    if (s.error) std::rethrow_exception(s.error);
    fail("loader: no steps from {} on", s.options.end_step);
  }
  std::vector<Batch> batches = std::move(s.ready.front());
  s.ready.pop_front();
  s.changed.notify_all();
  return batches;
}

}  // namespace tutti
