#include <tutti/core/train/parallel.h>

namespace tutti {

double Parallel::run_step(int64_t samples, const Stream& stream, StepContext context,
                          FunctionRef<Var(Tape& tape, const Shard& shard)> loss) {
  const std::vector<Shard> local = shards(samples);
  std::vector<std::vector<double>> losses(local.size(), {0.0});
  begin_step();
  for (size_t i = 0; i < local.size(); ++i) {
    begin_shard(i);
    const int64_t count = local[i].end - local[i].begin;
    if (count > 0) {
      context.first_sample = local[i].begin;
      context.samples = count;
      context.batch_share = static_cast<double>(count) / static_cast<double>(samples);
      Tape tape(stream, context);
      const Var value = loss(tape, local[i]);
      losses[i][0] = value.value.item();
      watch(tape, true);
      tape.backward(value);
    }
    end_shard(i);
  }
  (void)finish_step();
  return sum(losses).front();
}

}  // namespace tutti
