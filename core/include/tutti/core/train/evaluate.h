#pragma once

#include <tutti/core/train/batch.h>
#include <tutti/core/train/parallel.h>
#include <tutti/core/train/rank_poll.h>
#include <tutti/core/train/task.h>

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace tutti {

/// A pass over an evaluation set in inference mode, on all ranks together.
struct EvaluationPass {
  Task& task;
  Parallel& parallel;
  /// A pass over the set from its beginning, and its number of steps.
  std::function<std::unique_ptr<BatchSource>()> source;
  int64_t steps = 0;
  int64_t microbatch = 0;  ///< most samples of one forward pass; 0: no limit
  /// True on any rank ends the pass on all ranks; may be empty.
  std::function<bool()> stop_requested;
  Stream stream;
};

struct EvaluationOutcome {
  std::optional<EvaluationSums> sums;  ///< over the whole set, equal on all ranks
  PollResult left;                     ///< without sums: why the pass ended early
};

/// Collective. An error of one rank ends the pass on all ranks, with its message in `left`.
EvaluationOutcome evaluate(const EvaluationPass& pass);

/// Ranges of the global batch that one pass of forward and backward takes: each shard cut into microbatches
/// of at most `microbatch` samples (0: the whole shard). Rows follow the shards; a row is empty when its
/// shard is.
std::vector<std::vector<Parallel::Shard>> microbatches(const std::vector<Parallel::Shard>& shards,
                                                       int64_t microbatch);

}  // namespace tutti
