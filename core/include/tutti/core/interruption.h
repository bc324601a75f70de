#pragma once

#include <tutti/core/error.h>

namespace tutti {

/// Thrown by interruption_point(): a stop was requested before there was anything to save.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// Makes the long work at the start of a run (reading, checking and loading files) interruptible during its
/// lifetime: interruption_point() throws Interrupted once `stop_requested` returns true. For the whole
/// process; one at a time. Ranks stop together if the work runs in Peers::agree().
class Interruptible {
 public:
  explicit Interruptible(bool (*stop_requested)() noexcept) noexcept;
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
};

/// Must be called a few times per second in long work. The cost is one memory read; does nothing unless there
/// is an Interruptible.
void interruption_point();

}  // namespace tutti
