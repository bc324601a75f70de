#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tutti {

/// What one optimizer step did; equal on all ranks except for the times.
struct StepReport {
  int64_t step = 0;  ///< 1 after the first
  int64_t total_steps = 0;
  double loss = 0;  ///< mean over the global batch's predictions
  double learning_rate = 0;
  double grad_norm = 0;      ///< before clipping
  bool skipped = false;      ///< the loss or gradient was not finite: no update
  int64_t samples = 0;       ///< of the global batch
  int64_t predictions = 0;   ///< tokens, or images
  double epoch = 0;          ///< passes over the training data so far
  double step_s = 0;         ///< wall time of the step
  double data_wait_s = 0;    ///< of it, waiting for the next batch
  double comm_wait_s = 0;    ///< of it, waiting for other ranks
  double optimizer_s = 0;    ///< of it, in the optimizer; on CUDA only the host part
  double elapsed_s = 0;      ///< since training began, without earlier runs of a resumed training
  int64_t memory_bytes = 0;  ///< peak of tensors on the device so far
};

struct EvaluationReport {
  int64_t step = 0;
  double loss = 0;
  double accuracy = 0;
  double wall_s = 0;
};

/// What a new checkpoint does with older ones that need not be kept.
enum class OlderCheckpoints : uint8_t {
  kDelete,
  kKeep,  ///< all of them: the new one may be worse
};

struct CheckpointReport {
  int64_t step = 0;
  std::string path;
  double wall_s = 0;
  std::string error;  ///< why it could not be written; training continues
};

/// Receives the events of the training loop; called on every rank, in order, on the loop's thread.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_step(const StepReport& report) { (void)report; }
  virtual void on_evaluation(const EvaluationReport& report) { (void)report; }
  /// Called before a checkpoint of `step` steps is written: earlier events should be on disk before the
  /// checkpoint is.
  virtual void before_checkpoint(int64_t step) { (void)step; }
  virtual void on_checkpoint(const CheckpointReport& report) { (void)report; }
};

}  // namespace tutti
