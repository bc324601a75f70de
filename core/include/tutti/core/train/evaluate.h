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
  /// Starts a pass over the set from its beginning; `steps` is its number of steps.
  std::function<std::unique_ptr<BatchSource>()> source;
  int64_t steps = 0;
  int64_t microbatch = 0;  ///< maximum samples per forward pass; 0: no limit
  /// True on any rank ends the pass on all ranks; may be empty.
  std::function<bool()> stop_requested;
  Stream stream;
};

struct EvaluationOutcome {
  std::optional<EvaluationSums> sums;  ///< over the whole set, equal on all ranks
  PollResult interruption;             ///< if there are no sums: why the pass ended early
};

/// Collective. An error of one rank ends the pass on all ranks, with its message in `interruption`.
EvaluationOutcome evaluate(const EvaluationPass& pass);

/// Ranges of the global batch for one forward and backward pass: each shard divided into microbatches of at
/// most `microbatch` samples (0: the whole shard). One row per shard; the row of an empty shard is empty.
std::vector<std::vector<Parallel::Shard>> microbatches(const std::vector<Parallel::Shard>& shards,
                                                       int64_t microbatch);

}  // namespace tutti
