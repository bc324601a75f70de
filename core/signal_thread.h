#pragma once

#include <csignal>
#include <thread>

namespace tutti {

/// A thread on which signal handlers run instead of compute threads: during its lifetime, the calling thread
/// and the threads that it starts block every signal that is sent to the process as a whole, including
/// real-time signals. run_world() creates one before the first other thread.
///
/// The kernel writes a handler's frame below the stack pointer, and the fp32 products of oneDNN before 3.12
/// keep a heap address there: a signal in one of them overwrites other memory (oneDNN, issue 4845).
class SignalThread {
 public:
  /// Throws Error if the system refuses.
  SignalThread();
  /// Restores the signal mask of the calling thread, which must be the one that constructed it.
  ~SignalThread();
  SignalThread(const SignalThread&) = delete;
  SignalThread& operator=(const SignalThread&) = delete;

 private:
  sigset_t before_{};
  int ended_;  ///< an eventfd
  std::thread thread_;
};

}  // namespace tutti
