#pragma once

#include <csignal>
#include <thread>

namespace tutti {

/// A thread on which the handlers of signals run, in place of threads that compute: while it lives, the
/// calling thread and those that it starts hold off every signal that is sent to a process as a whole, those
/// of real time included. run_world() makes one before the first other thread.
///
/// The kernel writes a handler's frame below the stack pointer, and the fp32 products of oneDNN before 3.12
/// keep an address of the heap there: a signal in one of them overwrites other memory (oneDNN, issue 4845).
class SignalThread {
 public:
  /// Throws Error if the system refuses.
  SignalThread();
  /// Gives the calling thread, which must be the same, the signals back.
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  sigset_t before_{};
  int ended_;  ///< an eventfd
  std::thread thread_;
};

}  // namespace tutti
