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
  double optimizer_s = 0;    ///< of it, in the optimizer; on CUDA the host's part of it
  double elapsed_s = 0;      ///< since training began, earlier runs of a resumed training not counted
  int64_t memory_bytes = 0;  ///< peak of tensors on the device so far
};

struct EvaluationReport {
  int64_t step = 0;
  double loss = 0;
  double accuracy = 0;
  double wall_s = 0;
};

/// What a new checkpoint does to those that need not be kept any more.
enum class OlderCheckpoints : uint8_t {
  kDelete,
  kKeep,  ///< all of them: the new one may be worse
};

struct CheckpointReport {
  int64_t step = 0;
  std::string path;
  double wall_s = 0;
  std::string error;  ///< why it could not be written; training goes on
};

/// Gets told what the training loop does; called on every rank, in order, from the loop's thread.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_step(const StepReport& report) { (void)report; }
  virtual void on_evaluation(const EvaluationReport& report) { (void)report; }
  /// Before a checkpoint of `step` steps is written: what was told so far should be safe when it is there.
  virtual void before_checkpoint(int64_t step) { (void)step; }
  virtual void on_checkpoint(const CheckpointReport& report) { (void)report; }
};

}  // namespace tutti
