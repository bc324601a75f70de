#pragma once

#include <tutti/comm/distributed_model.h>
#include <tutti/comm/factory.h>
#include <tutti/comm/peers.h>
#include <tutti/core/data/dataset.h>
#include <tutti/core/train/trainer.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tutti {

/// What a Fit has to know besides the model.
struct FitOptions {
  OptimizerConfig optimizer;
  ScheduleConfig schedule{.kind = "constant", .warmup_steps = 0, .decay_steps = 0, .final_ratio = 0.1};
  int64_t schedule_steps = 0;  ///< that step() stretches the schedule over; `constant` needs none
  Precision precision;         ///< fp32, or bf16 with fp32 masters
  ParallelConfig parallel;
  ComputeConfig compute;   ///< GPUs where there are any, and an even share of the host's cores
  int64_t microbatch = 0;  ///< most samples in one pass of forward and backward; 0: no limit
  uint64_t seed = 0;       ///< of first values, dropout and the order of data
};

/// Data and habits of a training by Fit::run().
struct FitRun {
  std::shared_ptr<const Dataset> training;
  std::shared_ptr<const Dataset> validation;  ///< null: no evaluations
  int64_t steps = 1000;
  int64_t batch = 32;          ///< samples of a step, over all ranks
  int64_t evaluate_every = 0;  ///< steps; 0: only at the end
  int64_t max_skipped_steps = 3;
  bool cuda_graph = false;
  CheckpointConfig checkpoint;  ///< an empty dir: no checkpoints
  bool resume = true;           ///< go on from the newest checkpoint in checkpoint.dir, if there is one
  int64_t read_ahead = 2;       ///< steps whose data is kept ready
  int read_threads = 1;
  std::vector<Observer*> observers;  ///< JsonlWriter, Progress and the like, or one's own
  /// Asked often; true on any rank ends the run with a checkpoint. May be empty.
  std::function<bool()> stop_requested;
  /// Gets what a user should know, on rank 0. Empty: standard error.
  std::function<void(const std::string& text)> note;
};

/// Data-parallel training of a model in a program of one's own, on CPUs or GPUs: the model's parameters in
/// groups, their reduction over ranks, their optimizer and its schedule.
///
/// A loop of one's own calls step() and evaluate(), and saves:
///
///     Checkpoints checkpoints({.dir = "checkpoints"}, fit.peers(), log);
///     fit.resume(checkpoints);
///     while (fit.steps() < 1000) {
///       fit.step(256, loss);
///       if (fit.steps() % 100 == 0) fit.save(checkpoints);
///     }
///
/// With a Task and a Dataset, run() does all of it: tests/package/with_checkpoints.cpp and
/// tests/package/with_task.cpp are whole programs.
class Fit {
 public:
  /// Collective over `world`, which outlives this object as `model` does. Names the parameters and gives them
  /// their first values, the same on every rank. Throws Error as Compute, DistributedModel and Optimizer do.
  Fit(Collective& world, Module& model, const FitOptions& options = {});

  /// One step over the global batch [0, samples): calls `loss` for each of this rank's microbatches of it,
  /// adds the gradients of all ranks, clips and updates. `loss` returns a scalar, scaled so that those of all
  /// parts add up; tensors that it makes belong on tape.stream(). Returns their sum over all ranks, from
  /// before the update. Throws Error if it is not finite; nothing has changed then.
  double step(int64_t samples, FunctionRef<Var(Tape& tape, const Parallel::Shard& part)> loss);

  /// Sums over a set of `samples`: calls `part` for each of this rank's microbatches with a tape in inference
  /// mode. The same on all ranks.
  EvaluationSums evaluate(int64_t samples,
                          FunctionRef<EvaluationSums(Tape& tape, const Parallel::Shard& part)> part);

  /// Trains `task`, whose model is this object's, to run.steps steps: reading ahead, evaluations, checkpoints
  /// and stops as `tutti train` has them. Throws Error as Trainer does, and for another task's model.
  TrainResult run(Task& task, const FitRun& run);

  /// Steps done.
  [[nodiscard]] int64_t steps() const noexcept { return steps_; }
  /// Where tensors of the model are, and work on them goes.
  [[nodiscard]] const Stream& stream() const noexcept { return compute_.stream(); }
  [[nodiscard]] Peers& peers() noexcept { return peers_; }

  /// Goes on from the newest checkpoint whose checksums verify. Returns false if there is none. Collective;
  /// throws Error as Checkpoints::restore and prepare do.
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
