#pragma once

#include "launcher/launch/child.h"
#include "launcher/launch/held_signals.h"

#include <chrono>
#include <string_view>
#include <vector>

namespace tutti {

/// Takes the signals that end or concern a launch out of the process's usual handling, as long as it lives.
class Signals {
 public:
  struct Received {
    int number = 0;  ///< 0: none
    pid_t sender = 0;
  };

  Signals();
  [[nodiscard]] int descriptor() const { return descriptor_.number(); }
  /// The next signal that has come.
  Received next();

 private:
  HeldSignals held_;
  Descriptor descriptor_;
};

/// What a supervisor was told, over all attempts.
struct Stop {
  using Clock = std::chrono::steady_clock;

  std::vector<std::string_view> daemons;  ///< of the scheduler that signals to a job come from
  Signals signals;
  bool asked = false;
  int first_signal = 0;
  bool by_scheduler = false;  ///< a scheduler's own process sent the first signal
  bool at_once = false;
  Clock::time_point since;
  Clock::time_point limit = Clock::time_point::max();  ///< when ranks are told to stop

  /// Takes in what has come. Returns whether it is the first request to stop.
  bool look();
  /// Waits until a signal that ends processes comes; at most `seconds`.
  void wait_for_end(double seconds);

 private:
  void ask(const Signals::Received& signal);
};

}  // namespace tutti
