#pragma once

#include <tutti/comm/distributed_model.h>
#include <tutti/comm/factory.h>
#include <tutti/comm/peers.h>
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/train/trainer.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// Settings of a Fit.
struct FitOptions {
  OptimizerConfig optimizer;
  ScheduleConfig schedule{.kind = "constant", .warmup_steps = 0, .decay_steps = 0, .final_ratio = 0.1};
  int64_t schedule_steps = 0;  ///< length of a schedule in step(), unless `constant`; run() has FitRun::steps
  Precision precision;         ///< fp32, or bf16 with fp32 masters
  ParallelConfig parallel;
  ComputeConfig compute;   ///< by default GPUs if available, and an even share of the host's cores
  int64_t microbatch = 0;  ///< maximum samples per forward and backward pass; 0: no limit
  uint64_t seed = 0;       ///< of initial values, dropout and the order of data
};

/// Data and settings of Fit::run().
struct FitRun {
  std::shared_ptr<const Dataset> training;
  std::shared_ptr<const Dataset> validation;  ///< null: no evaluations
  int64_t steps = 1000;
  int64_t batch = 32;          ///< samples per step, over all ranks
  int64_t evaluate_every = 0;  ///< steps; 0: only at the end
  int64_t max_skipped_steps = 3;
  bool cuda_graph = true;
  CheckpointConfig checkpoint;  ///< an empty dir: no checkpoints
  /// Resume from the newest checkpoint in checkpoint.dir, if there is one and no step has been done yet.
  bool resume = true;
  int64_t read_ahead = 2;  ///< steps of data to prefetch
  int read_threads = 1;
  std::vector<Observer*> observers;  ///< called on every rank
  /// Called often; true on any rank ends the run with a checkpoint. May be empty.
  std::function<bool()> stop_requested;
  /// Receives messages for the user, on rank 0. Empty: standard error.
  std::function<void(const std::string& text)> note;
};

/// Data-parallel training of a model in a user program, on CPUs or GPUs: parameter groups, gradient reduction
/// over ranks, optimizer and schedule.
///
/// A user-defined loop calls step() and evaluate(), and saves:
///
///     Checkpoints checkpoints({.dir = "checkpoints"}, fit.peers(), log);
///     fit.resume(checkpoints);
///     while (fit.steps() < 1000) {
///       fit.step(256, loss);
///       if (fit.steps() % 100 == 0) fit.save(checkpoints);
///     }
///
/// With a Task and a Dataset, run() is the complete loop: tests/package/with_checkpoints.cpp and
/// tests/package/with_task.cpp are complete programs.
class Fit {
 public:
  /// Collective over `world`. `world` and `model` outlive this object. Names the parameters and initialises
  /// them equally on every rank. Throws Error as Compute, DistributedModel and Optimizer do.
  Fit(Collective& world, Module& model, const FitOptions& options = {});

  /// One step over the global batch [0, samples): calls `loss` for each of this rank's microbatches of it,
  /// adds the gradients of all ranks, clips and updates. `loss` returns a scalar, scaled so that the sum over
  /// all parts is the loss of the batch; it must create tensors on tape.stream(). Returns the sum over all
  /// ranks, before the update. Throws Error if it is not finite, for fewer than one sample, and without a
  /// needed schedule_steps; the model is then unchanged.
  double step(int64_t samples, FunctionRef<Var(Tape& tape, const Parallel::Shard& part)> loss);

  /// Sums over a set of `samples`: calls `part` for each of this rank's microbatches with a tape in inference
  /// mode. Equal on all ranks.
  EvaluationSums evaluate(int64_t samples,
                          FunctionRef<EvaluationSums(Tape& tape, const Parallel::Shard& part)> part);

  /// Trains `task`, which must have the model of this object, to run.steps steps, with prefetching,
  /// evaluations, checkpoints and stops as in `tutti train`. If all steps are done already, it evaluates
  /// only. Throws Error as Trainer does, if the task has another model, and if ranks have data sets of
  /// different sizes or different steps. After an exception, steps() is the number of steps done.
  TrainResult run(Task& task, const FitRun& run);

  /// Steps done.
  [[nodiscard]] int64_t steps() const noexcept { return steps_; }
  /// The stream of the model's tensors and of work on them.
  [[nodiscard]] const Stream& stream() const noexcept { return compute_.stream(); }
  [[nodiscard]] Peers& peers() noexcept { return peers_; }

  /// Resumes from the newest checkpoint with valid checksums. Returns false if there is none. Collective;
  /// throws Error as Checkpoints::restore and prepare do, and if the checkpoint was written with another
  /// seed.
  bool resume(Checkpoints& checkpoints);
  /// Saves weights and optimizer state. Collective; throws Error on all ranks if it cannot.
  void save(Checkpoints& checkpoints);

 private:
  FitOptions options_;
  CollectivePeers peers_;
  Compute compute_;
  DistributedModel model_;
  Optimizer optimizer_;
  int64_t steps_ = 0;
};

}  // namespace tutti
