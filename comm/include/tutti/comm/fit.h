#pragma once

#include <tutti/comm/data_parallel.h>
#include <tutti/comm/factory.h>
#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/module.h>
#include <tutti/core/train/schedule.h>
#include <tutti/kernels/optimizer.h>

#include <memory>
#include <vector>

namespace tutti {

/// What a Fit has to know besides the model.
struct FitOptions {
  OptimizerConfig optimizer;
  ScheduleConfig schedule{.kind = "constant", .warmup_steps = 0, .decay_steps = 0, .final_ratio = 0.1};
  int64_t schedule_steps = 0;  ///< that the schedule is stretched over; `constant` needs none
  Precision precision;         ///< fp32, or bf16 with fp32 masters
  DataParallelConfig parallel;
  uint64_t seed = 0;  ///< of first values and dropout
  int threads = 1;    ///< of this rank, for the loops of operations
};

/// Data-parallel training of a model in a program of one's own: the model's parameters in groups, their
/// reduction over ranks, their optimizer and its schedule, on the CPU. Loops that need more, such as GPUs,
/// microbatches or sharded state, use the parts themselves: make_param_groups, DataParallel, Optimizer and
/// Trainer.
///
/// Checkpoints, as in tests/package/with_checkpoints.cpp:
///
///     CollectivePeers peers(world);
///     Checkpoints checkpoints({.dir = "checkpoints"}, peers, log);
///     if (const auto found = checkpoints.restore(fit.state())) fit.resume(found->step);
///     checkpoints.prepare(fit.steps());
///     ...
///     checkpoints.save(fit.state(), {.step = fit.steps()});
class Fit {
 public:
  /// Collective over `world`, which outlives this object as `model` does. Names the parameters and gives them
  /// their first values, the same on every rank. Throws Error as the parts do.
  Fit(Collective& world, Module& model, const FitOptions& options = {});

  /// One step over the global batch [0, samples): calls `loss` for each of this rank's parts of it, adds the
  /// gradients of all ranks, clips and updates. `loss` returns a scalar, scaled so that those of all parts
  /// add up. Returns their sum over all ranks, from before the update. Throws Error if it is not finite.
  double step(int64_t samples, FunctionRef<Var(Tape& tape, const Parallel::Shard& part)> loss);

  /// Steps done.
  [[nodiscard]] int64_t steps() const noexcept { return steps_; }

  /// Weights and optimizer's state, as Checkpoints saves and restores them.
  [[nodiscard]] TrainingState state();
  /// Goes on after `steps` steps, with what has been restored into state().
  void resume(int64_t steps);

 private:
  FitOptions options_;
  Module& model_;
  ThreadPool pool_;
  Stream stream_;
  std::vector<std::unique_ptr<ParamGroup>> groups_;
  DataParallel parallel_;
  Optimizer optimizer_;
  int64_t steps_ = 0;
};

}  // namespace tutti
