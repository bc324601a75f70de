#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/train/batch.h>
#include <tutti/core/train/parallel.h>

#include <functional>
#include <string>

namespace tutti {

/// Why ranks leave what they do together; the same on all ranks.
struct PollResult {
  bool stop = false;    ///< a rank was asked to stop
  std::string problem;  ///< what a rank threw; empty if none did
  double seconds = 0;   ///< as rank 0 gave them

  [[nodiscard]] bool go_on() const { return !stop && problem.empty(); }
};

/// Lets ranks leave work together that one of them cannot or shall not go on with: no rank may leave by
/// itself, because the others would wait for it in their next collective.
///
/// A rank does its work by attempt(), which does nothing any more once there is a reason to leave; from time
/// to time all ranks call agree().
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
  bool stop_asked();
  /// What all ranks come to. Collective.
  PollResult agree(double seconds = 0);

 private:
  Parallel& parallel_;
  const std::function<bool()>& stop_requested_;
  bool stop_ = false;
  bool failed_ = false;
  std::string problem_;
};

/// How many pieces of work should come between two polls, after `pieces` took `seconds`: so many that polls
/// come some ten times a second, and at most twice as many as before.
int64_t pieces_between_polls(int64_t pieces, double seconds);

}  // namespace tutti
