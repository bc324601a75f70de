#pragma once

#include <tutti/comm/data_parallel.h>
#include <tutti/comm/factory.h>
#include <tutti/core/module.h>
#include <tutti/kernels/optimizer.h>

#include <memory>
#include <vector>

namespace tutti {

/// What a Fit has to know besides the model. The learning rate stays as it is given.
struct FitOptions {
  OptimizerConfig optimizer;
  DataParallelConfig parallel;
  uint64_t seed = 0;  ///< of first values and dropout
  int threads = 1;    ///< of this rank, for the loops of operations
};

/// Data-parallel training of a model in a program of one's own: the model's parameters in groups, their
/// reduction over ranks and their optimizer, on the CPU in fp32. Loops that need more, such as schedules,
/// microbatches or checkpoints, use the parts themselves: make_param_groups, DataParallel, Optimizer and
/// Trainer.
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

 private:
  uint64_t seed_;
  ThreadPool pool_;
  Stream stream_;
  std::vector<std::unique_ptr<ParamGroup>> groups_;
  DataParallel parallel_;
  Optimizer optimizer_;
  int64_t steps_ = 0;
};

}  // namespace tutti
