#include <tutti/core/train/evaluate.h>
#include <tutti/core/train/parallel.h>
#include "core/train/readings.h"

namespace tutti {

double Parallel::run_step(int64_t samples, int64_t microbatch, const Stream& stream, StepContext context,
                          FunctionRef<Var(Tape& tape, const Shard& part)> loss) {
  require(samples >= 1, "a training step of {} samples", samples);
  const auto local = microbatches(shards(samples), microbatch);
  Readings losses;
  begin_step();
  for (size_t s = 0; s < local.size(); ++s) {
    begin_shard(s);
    for (size_t m = 0; m < local[s].size(); ++m) {
      const Shard& part = local[s][m];
      context.first_sample = part.begin;
      context.samples = part.end - part.begin;
      context.batch_share = static_cast<double>(context.samples) / static_cast<double>(samples);
      Tape tape(stream, context);
      const Var value = loss(tape, part);
      losses.take(value.value, stream);
      register_hooks(tape, m + 1 == local[s].size());
      backward_from_loss(tape, value);
    }
    end_shard(s);
  }
  (void)finish_step();
  if (stream.device().type != DeviceType::kCpu) stream.synchronize();  // losses are being copied to the host
  const std::vector<double> values = losses.values();
  std::vector<std::vector<double>> leaves(local.size(), {0.0});
  size_t next = 0;
  for (size_t s = 0; s < local.size(); ++s) {
    for (size_t m = 0; m < local[s].size(); ++m) leaves[s][0] += values.at(next++);
  }
  return sum(leaves).front();
}

}  // namespace tutti
