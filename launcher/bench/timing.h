#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/stream.h>

#include <cstdint>

namespace tutti {

/// How long one call of some work takes.
struct Timing {
  double seconds = 0;       ///< median over samples
  double best_s = 0;        ///< the fastest sample
  int64_t calls_timed = 0;  ///< in all samples
};

/// Calls `work`, which gives its work to `stream`, again and again: first to warm up, then in samples of
/// equally many calls. The clock of a sample stops when the stream has done all of it, so that the device has
/// the next call's work before it has done this one's. At least three samples; more until `budget_s` seconds
/// are used up.
Timing measure(const Stream& stream, double budget_s, FunctionRef<void()> work);

}  // namespace tutti
