#pragma once

#include <tutti/core/function_ref.h>

#include <cstdint>
#include <deque>
#include <string>

namespace tutti {

/// Time as those see it who wait for a library; tests make their own.
class Clock {
 public:
  virtual ~Clock() = default;
  [[nodiscard]] virtual double now_s() = 0;
  virtual void sleep_s(double seconds) = 0;
};

/// The machine's steady clock.
Clock& steady_clock();

/// What a call that goes on behind the caller's back has come to.
enum class CallState : uint8_t { kUnderWay, kDone, kFailed, kLate };

/// Asks `state` until it is no longer kUnderWay, at first at once, then in intervals that grow from 10
/// microseconds to 10 milliseconds; returns kLate once `deadline_s` seconds have passed. It is asked once
/// more after the last sleep.
CallState wait_until_done(FunctionRef<CallState()> state, double deadline_s, Clock& clock);

/// Operations that a rank has given to a device and that other ranks must take part in, oldest first: says
/// when one has been waited for too long. Pure bookkeeping: it is told what happened and when.
class OperationWatch {
 public:
  /// An operation is late when it has not ended `deadline_s` seconds after it was issued and all earlier ones
  /// had ended.
  explicit OperationWatch(double deadline_s) : deadline_s_(deadline_s) {}

  /// Operations end in the order in which they are issued. Returns the number of this one, from 0.
  uint64_t issued(std::string what, double now_s);
  [[nodiscard]] bool idle() const noexcept { return waiting_.empty(); }
  /// The oldest operation that has not ended: "all_reduce 12 (1048576 fp32)". Only if not idle.
  [[nodiscard]] std::string oldest() const;
  /// The oldest operation has ended.
  void ended(double now_s);
  /// Empty, or that the oldest operation is late and what waits behind it.
  [[nodiscard]] std::string complaint(double now_s) const;

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
