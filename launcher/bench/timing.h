#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/stream.h>

#include <cstdint>

namespace tutti {

/// The time of one call.
struct Timing {
  double seconds = 0;       ///< median over samples
  double best_s = 0;        ///< the fastest sample
  int64_t calls_timed = 0;  ///< in all samples
};

/// Calls `work`, which enqueues work on `stream`, repeatedly: first as a warm-up, then in samples of the same
/// number of calls. The time of a sample ends when the stream has completed all of its calls, so that the
/// device has the work of the next call before it completes that of this one. Takes at least three samples,
/// and more until `budget_s` seconds are used.
Timing measure(const Stream& stream, double budget_s, FunctionRef<void()> work);

}  // namespace tutti
