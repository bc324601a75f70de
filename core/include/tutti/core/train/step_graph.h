#pragma once

#include <tutti/core/train/batch.h>
#include <tutti/core/train/parallel.h>

#include <tutti/core/function_ref.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// All that a captured step has taken in by value: a step with another key is another graph. Numbers that
/// change from step to step (learning rate, step number) are read from memory of the device instead.
/// Equal on all ranks if it is equal on one: it holds the global batch's size and predictions, from which
/// shards follow.
struct StepKey {
  int64_t samples = 0;
  double predictions = 0;
  std::vector<std::vector<Parallel::Shard>> microbatches;  ///< of this rank
  std::vector<std::string> batches;                        ///< shapes and dtypes of inputs and targets

  static StepKey of(int64_t samples, double predictions,
                    const std::vector<std::vector<Parallel::Shard>>& microbatches,
                    std::span<const Batch> batches);
  friend bool operator==(const StepKey& a, const StepKey& b);
};

/// Decides how a step runs: two steps of a key eagerly, so that memory is cached and algorithms are chosen,
/// then captured once, and replayed whenever the key comes again. Other keys (the last batch of an epoch) run
/// eagerly and leave the graph as it is. A capture that failed is not tried again. Pure bookkeeping.
class StepGraphPlan {
 public:
  enum class Way : uint8_t { kEager, kCapture, kReplay };
  static constexpr int kEagerSteps = 2;

  /// How a step with this key shall run. After kCapture, captured() or failed() is to be called.
  Way next(const StepKey& key);
  void captured();
  /// From now on steps are eager; `reason` says why.
  void failed(std::string reason);

  /// Empty unless capture is impossible.
  [[nodiscard]] const std::string& reason() const noexcept { return reason_; }
  [[nodiscard]] bool has_graph() const noexcept { return state_ == State::kCaptured; }

 private:
  enum class State : uint8_t { kCounting, kCapturing, kCaptured, kFailed };
  State state_ = State::kCounting;
  StepKey key_;
  int seen_ = 0;
  std::string reason_;
};

/// A step's work for a CUDA device, captured once and replayed with other batches: see StepGraphPlan.
class StepGraph {
 public:
  /// `stream` is that of the step's work.
  explicit StepGraph(const Stream& stream);

  /// Captures what `work(batches)` gives to the stream; the batches it gets have the shapes of `like` and are
  /// where load() brings each step's. Nothing runs yet. Throws Error if it cannot be captured.
  void capture(std::span<const Batch> like, FunctionRef<void(const std::vector<Batch>& batches)> work);
  /// Brings the batches of step `step` and its number to the device, in the stream's order.
  void load(std::span<const Batch> batches, int64_t step);
  /// Gives the captured work to the stream.
  void launch();
  /// Drops what was captured.
  void clear();

 private:
  Stream stream_;
  std::vector<Batch> batches_;
  Tensor counter_;               // (1) int64: the step's number
  std::shared_ptr<void> graph_;  // cuda::Graph
};

}  // namespace tutti
