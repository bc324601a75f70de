#include <tutti/core/error.h>
#include <tutti/core/memory/owner.h>
#include <tutti/core/train/step_graph.h>
#include "core/cuda/config.h"
#include "core/cuda/device.h"
#include "core/cuda/graph.h"

#include <algorithm>
#include <utility>

namespace tutti {

StepKey StepKey::of(int64_t samples, double predictions,
                    const std::vector<std::vector<Parallel::Shard>>& microbatches,
                    std::span<const Batch> batches) {
  StepKey key{.samples = samples, .predictions = predictions, .microbatches = microbatches, .batches = {}};
  key.batches.reserve(batches.size());
  for (const Batch& batch : batches) {
    key.batches.push_back(fmt::format("{} {}, {} {}", to_string(batch.inputs.shape()),
                                      name(batch.inputs.dtype()), to_string(batch.targets.shape()),
                                      name(batch.targets.dtype())));
  }
  return key;
}

bool operator==(const StepKey& a, const StepKey& b) {
  const auto same = [](const Parallel::Shard& x, const Parallel::Shard& y) {
    return x.begin == y.begin && x.end == y.end;
  };
  return a.samples == b.samples && a.predictions == b.predictions && a.batches == b.batches &&
         std::equal(a.microbatches.begin(), a.microbatches.end(), b.microbatches.begin(),
                    b.microbatches.end(), [&](const auto& x, const auto& y) {
                      return std::equal(x.begin(), x.end(), y.begin(), y.end(), same);
                    });
}

StepGraphPlan::Mode StepGraphPlan::next(const StepKey& key) {
  require(state_ != State::kCapturing,
          "StepGraphPlan: neither captured() nor failed() was called after the last capture");
  if (state_ == State::kFailed) return Mode::kEager;
  if (state_ == State::kCaptured) return key == key_ ? Mode::kReplay : Mode::kEager;
  if (seen_ == 0 || !(key == key_)) {
    key_ = key;
    seen_ = 0;
  }
  if (seen_ < kEagerSteps) {
    ++seen_;
    return Mode::kEager;
  }
  state_ = State::kCapturing;
  return Mode::kCapture;
}

void StepGraphPlan::captured() {
  require(state_ == State::kCapturing, "StepGraphPlan: no capture is in progress");
  state_ = State::kCaptured;
}

void StepGraphPlan::failed(std::string reason) {
  state_ = State::kFailed;
  reason_ = std::move(reason);
}

StepGraph::StepGraph(const Stream& stream) : stream_(stream) {}

void StepGraph::capture(std::span<const Batch> like,
                        FunctionRef<void(const std::vector<Batch>& batches)> work) {
  if constexpr (kWithCuda) {
    const MemoryOwner owner("captured batches");
    clear();
    counter_ = Tensor::zeros({1}, DType::kInt64, stream_);
    batches_.reserve(like.size());
    for (const Batch& batch : like) {
      Batch mine;
      mine.inputs = Tensor::empty(batch.inputs.shape(), batch.inputs.dtype(), stream_);
      mine.targets = Tensor::empty(batch.targets.shape(), batch.targets.dtype(), stream_);
      mine.first_sample = batch.first_sample;
      batches_.push_back(std::move(mine));
    }
    // The graph has separate memory: the cache of eager steps would be unused.
    cuda::release_cached_memory(stream_.device().index);
    const cuda::UseStepCounter counter(static_cast<const uint64_t*>(counter_.raw()));
    graph_ = std::shared_ptr<cuda::Graph>(cuda::Graph::capture(stream_, [&] { work(batches_); }));
  } else {
    fail("a captured step needs a build with CUDA");
  }
}

void StepGraph::load(std::span<const Batch> batches, int64_t step) {
  require(batches.size() == batches_.size(), "a captured step of {} batches got {}", batches_.size(),
          batches.size());
  for (size_t i = 0; i < batches.size(); ++i) {
    batches[i].use_on(stream_);
    copy(batches_[i].inputs, batches[i].inputs, stream_);
    copy(batches_[i].targets, batches[i].targets, stream_);
  }
  const Tensor number = Tensor::empty_pinned({1}, DType::kInt64, stream_);
  *number.data<int64_t>() = step;
  copy(counter_, number, stream_);
}

void StepGraph::launch() {
  require(graph_ != nullptr, "no step has been captured");
  if constexpr (kWithCuda) static_cast<cuda::Graph*>(graph_.get())->launch();
}

void StepGraph::clear() {
  graph_.reset();
  batches_.clear();
}

}  // namespace tutti
