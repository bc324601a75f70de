#pragma once

#include <tutti/core/error.h>

namespace tutti {

/// Thrown by interruption_point(): a stop was asked for while there was nothing to save yet.
class Interrupted : public Error {
 public:
  using Error::Error;
};

/// Makes the long work of a start (reading, checking and loading files) interruptible as long as it lives:
/// interruption_point() throws Interrupted once `asked` returns true. For the whole process; one at a time.
/// Ranks leave together where the work runs in Peers::agree().
class Interruptible {
 public:
  explicit Interruptible(bool (*asked)() noexcept) noexcept;
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;
};

/// To be called a few times a second by work that may take long. Costs a read of memory; does nothing unless
/// there is an Interruptible.
void interruption_point();

}  // namespace tutti
