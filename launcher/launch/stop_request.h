#pragma once

#include "launcher/launch/blocked_signals.h"
#include "launcher/launch/child.h"

#include <chrono>
#include <string_view>
#include <vector>

namespace tutti {

/// Blocks the signals that end or concern a launch while it exists, and receives them.
class Signals {
 public:
  struct Received {
    int number = 0;  ///< 0: none
    pid_t sender = 0;
  };

  Signals();
  [[nodiscard]] int descriptor() const { return descriptor_.number(); }
  /// The next pending signal.
  Received next();

 private:
  BlockedSignals blocked_;
  Descriptor descriptor_;
};

/// The request to stop that a supervisor has received, over all attempts.
struct StopRequest {
  using Clock = std::chrono::steady_clock;

  std::vector<std::string_view> daemons;  ///< of the scheduler: beginnings of process names
  Signals signals;
  bool requested = false;
  int first_signal = 0;
  bool by_scheduler = false;  ///< a scheduler's own process sent the first signal
  bool immediate = false;
  Clock::time_point since;
  Clock::time_point limit = Clock::time_point::max();  ///< when ranks are to stop at the latest

  /// Reads pending signals. Returns whether it is the first request to stop.
  bool poll();
  /// Waits for SIGTERM or SIGINT, at most `seconds`.
  void wait_for_end(double seconds);

 private:
  void receive(const Signals::Received& signal);
};

}  // namespace tutti
