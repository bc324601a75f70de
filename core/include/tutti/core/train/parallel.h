#pragma once

#include <tutti/core/peers.h>
#include <tutti/core/tape.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// How a step is divided among ranks: the interface for the training loop, implemented by comm's data
/// parallelism.
///
/// One step: begin_step; for each local shard begin_shard, forward and backward of its microbatches with
/// register_hooks() on each tape, end_shard; finish_step. After that, grads() of the groups are the sum over
/// the global batch on every rank.
class Parallel {
 public:
  /// Samples [begin, end) of a step's global batch; empty when there are fewer samples than shards.
  struct Shard {
    int64_t begin = 0;
    int64_t end = 0;
  };

  virtual ~Parallel() = default;
  [[nodiscard]] virtual Peers& peers() = 0;
  /// This rank's shards of a global batch, in order. Their number does not depend on `samples`.
  [[nodiscard]] virtual std::vector<Shard> shards(int64_t samples) const = 0;

  virtual void begin_step() = 0;
  virtual void begin_shard(size_t index) = 0;
  /// Must be called before backward. For the last microbatch of the last shard, it registers the hooks that
  /// send gradients when they are complete.
  virtual void register_hooks(Tape& tape, bool last_microbatch) = 0;
  virtual void end_shard(size_t index) = 0;
  /// Waits for all reductions. Returns the seconds that this rank waited.
  virtual double finish_step() = 0;

  /// Why the device work of a step cannot be captured and replayed; empty if it can.
  [[nodiscard]] virtual std::string why_no_capture() const { return ""; }

  /// Must be called after the optimizer step: if ranks updated only their part of the weights, they exchange
  /// it.
  virtual void after_update() {}

  /// Sums `leaves` (one row of equally many values for each local shard) over all shards of the world, in the
  /// same fixed tree as gradients; the result is the same on all ranks.
  virtual std::vector<double> sum(std::span<const std::vector<double>> leaves) = 0;

  /// A complete step for user-defined loops: calls `loss` for each microbatch of at most `microbatch` samples
  /// (0: for each local shard) that has samples, runs backward, and reduces. Returns the sum of the losses
  /// (scalars, scaled so that those of all microbatches add up) over the world. `context` gives seed and
  /// step; its sample numbers and share are filled in. Throws Error for fewer than one sample.
  double run_step(int64_t samples, int64_t microbatch, const Stream& stream, StepContext context,
                  FunctionRef<Var(Tape& tape, const Shard& part)> loss);
};

}  // namespace tutti
