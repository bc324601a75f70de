#include <tutti/core/train/evaluate.h>

#include <tutti/core/train/stopwatch.h>

#include <algorithm>

namespace tutti {

std::vector<std::vector<Parallel::Shard>> microbatches(const std::vector<Parallel::Shard>& shards,
                                                       int64_t microbatch) {
  std::vector<std::vector<Parallel::Shard>> all(shards.size());
  for (size_t s = 0; s < shards.size(); ++s) {
    const int64_t most = microbatch > 0 ? microbatch : std::max<int64_t>(1, shards[s].end - shards[s].begin);
    for (int64_t begin = shards[s].begin; begin < shards[s].end; begin += most) {
      all[s].push_back({begin, std::min(begin + most, shards[s].end)});
    }
  }
  return all;
}

EvaluationOutcome evaluate(const EvaluationPass& pass) {
  RankPoll poll(pass.parallel, pass.stop_requested);
  std::unique_ptr<BatchSource> source;
  poll.attempt([&] { source = pass.source(); });
  std::vector<std::vector<double>> leaves(pass.parallel.shards(0).size(), {0.0, 0.0, 0.0});
  const auto work = [&](int64_t step) {
    if (!poll.wait_for(*source)) return;
    const auto shards = microbatches(pass.parallel.shards(source->samples(step)), pass.microbatch);
    const std::vector<Batch> batches = source->next();
    size_t next = 0;
    for (size_t s = 0; s < shards.size(); ++s) {
      for (size_t m = 0; m < shards[s].size(); ++m) {
        if (poll.stop_requested()) return;
        const Batch& batch = batches.at(next++);
        batch.use_on(pass.stream);
        const EvaluationSums sums = pass.task.evaluate(pass.stream, batch);
        leaves[s][0] += sums.loss;
        leaves[s][1] += sums.correct;
        leaves[s][2] += sums.count;
      }
    }
  };
  int64_t between = 1;
  Stopwatch since_poll;
  for (int64_t i = 0, left = 1; i < pass.steps; ++i) {
    poll.attempt([&] { work(i); });
    if (--left > 0 && i + 1 < pass.steps) continue;
    const PollResult result = poll.agree(since_poll.seconds());
    if (!result.should_continue()) return {.sums = std::nullopt, .interruption = result};
    between = pieces_between_polls(between, result.seconds);  // the same on all ranks
    left = between;
    since_poll = {};
  }
  const std::vector<double> sums = pass.parallel.sum(leaves);
  return {.sums = EvaluationSums{.loss = sums[0], .correct = sums[1], .count = sums[2]}, .interruption = {}};
}

}  // namespace tutti
