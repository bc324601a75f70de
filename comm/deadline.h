#pragma once

#include <tutti/core/function_ref.h>

#include <cstdint>
#include <deque>
#include <string>

namespace tutti {

/// The clock of waits for a library; tests provide their own.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual double now_s() = 0;
  virtual void sleep_s(double seconds) = 0;
};

/// The machine's steady clock.
Clock& steady_clock();

/// State of an asynchronous call.
enum class CallState : uint8_t { kPending, kDone, kFailed, kTimedOut };

/// Polls `state` until it is not kPending: immediately, then at intervals that grow from 10 microseconds to
/// 10 milliseconds; returns kTimedOut after `deadline_s` seconds. It is polled once more after the last
/// sleep.
CallState wait_until_done(FunctionRef<CallState()> state, double deadline_s, Clock& clock);

/// Watchdog for operations that a rank has enqueued on a device and that other ranks must join, oldest first:
/// reports when one has timed out. Pure bookkeeping: callers report events with their times.
class OperationWatchdog {
 public:
  /// An operation is overdue if it has not ended `deadline_s` seconds after it was issued and all earlier
  /// ones had ended.
  explicit OperationWatchdog(double deadline_s) : deadline_s_(deadline_s) {}

  /// Operations end in the order in which they are issued. Returns the number of this one, from 0.
  uint64_t issued(std::string what, double now_s);
  [[nodiscard]] bool idle() const noexcept { return waiting_.empty(); }
  /// The oldest operation that has not ended: "all_reduce 12 (1048576 fp32)". Only if not idle.
  [[nodiscard]] std::string oldest() const;
  /// The oldest operation has ended.
  void ended(double now_s);
  /// A message if the oldest operation is overdue, with the number of operations that wait for it; else
  /// empty.
  [[nodiscard]] std::string overdue(double now_s) const;

 private:
  struct Operation {
    uint64_t number;
    std::string what;
    double issued_s;
  };
  double deadline_s_;
  double last_end_s_ = 0;
  uint64_t next_ = 0;
  std::deque<Operation> waiting_;
};

}  // namespace tutti
