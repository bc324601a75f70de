#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/train/batch.h>
#include <tutti/core/train/parallel.h>

#include <functional>
#include <string>

namespace tutti {

/// Why ranks end collective work early; the same on all ranks.
struct PollResult {
  bool stop = false;    ///< a rank was asked to stop
  std::string problem;  ///< message of an exception of a rank; empty if there is none
  double seconds = 0;   ///< as passed by rank 0

  [[nodiscard]] bool should_continue() const { return !stop && problem.empty(); }
};

/// Ends collective work on all ranks together if one of them fails or must stop: no rank may end it alone,
/// because the others would wait for it in their next collective.
///
/// A rank works in attempt(), which does nothing after a failure or stop request; all ranks call agree()
/// regularly.
class RankPoll {
 public:
  /// Both outlive this object; `stop_requested` may be empty.
  RankPoll(Parallel& parallel, const std::function<bool()>& stop_requested)
      : parallel_(parallel), stop_requested_(stop_requested) {}

  /// Runs `work`, unless this rank was asked to stop or an earlier attempt threw.
  void attempt(FunctionRef<void()> work);
  /// Waits for the next batches of `source`; false if the rank was asked to stop meanwhile.
  bool wait_for(BatchSource& source);
  /// Whether this rank was asked to stop.
  bool stop_requested();
  /// Combines the state of all ranks. Collective.
  PollResult agree(double seconds = 0);

 private:
  Parallel& parallel_;
  const std::function<bool()>& stop_requested_;
  bool stop_ = false;
  bool failed_ = false;
  std::string problem_;
};

/// Number of pieces of work between two polls, after `pieces` took `seconds`: so many that there are about
/// ten polls per second, and at most twice as many as before.
int64_t pieces_between_polls(int64_t pieces, double seconds);

}  // namespace tutti
