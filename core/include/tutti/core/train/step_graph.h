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

/// All values that a captured step contains: a step with another key needs another graph. Numbers that change
/// from step to step (learning rate, step number) are read from device memory instead. Two keys that are
/// equal on one rank are equal on all ranks: they include the global batch's size and predictions, which
/// determine the shards.
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

/// Decides how a step runs: two steps of a key eagerly, so that memory is cached and algorithms are selected,
/// then one capture, then replay for every step with this key. Other keys (the last batch of an epoch) run
/// eagerly and do not change the graph. A failed capture is not repeated. Pure bookkeeping.
class StepGraphPlan {
 public:
  enum class Mode : uint8_t { kEager, kCapture, kReplay };
  static constexpr int kEagerSteps = 2;

  /// How a step with this key must run. After kCapture, captured() or failed() must be called.
  Mode next(const StepKey& key);
  void captured();
  /// All further steps are eager because of `reason`.
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
  /// `stream` is the stream of the step's work.
  explicit StepGraph(const Stream& stream);

  /// Captures the work that `work(batches)` enqueues on the stream; its batches have the shapes of `like` and
  /// are the destination of load(). The work does not run yet. Throws Error if it cannot be captured.
  void capture(std::span<const Batch> like, FunctionRef<void(const std::vector<Batch>& batches)> work);
  /// Copies the batches of step `step` and its number to the device, in the stream's order.
  void load(std::span<const Batch> batches, int64_t step);
  /// Launches the captured work on the stream.
  void launch();
  /// Discards the captured work.
  void clear();

 private:
  Stream stream_;
  std::vector<Batch> batches_;
  Tensor counter_;               // (1) int64: the step's number
  std::shared_ptr<void> graph_;  // cuda::Graph
};

}  // namespace tutti
