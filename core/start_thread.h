#pragma once

#include <tutti/core/error.h>

#include <csignal>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

namespace tutti {

/// Starts a thread that calls `body`. Throws Error, with the purpose of the thread, if the system refuses.
template <class Body>
std::thread start_thread(std::string_view purpose, Body&& body) {
  try {
    return std::thread(std::forward<Body>(body));
  } catch (const std::system_error& problem) {
    fail(
        "cannot start a thread for {}: {} (limits on memory, on addresses (ulimit -v) and on processes "
        "(ulimit -u) include threads)",
        purpose, problem.code().message());
  }
}

/// The same for a thread that blocks all signals, so that other threads receive them.
template <class Body>
std::thread start_thread_without_signals(std::string_view purpose, Body&& body) {
  struct Blocked {
    Blocked() {
      sigset_t all{};
      (void)sigfillset(&all);
      const int error = pthread_sigmask(SIG_SETMASK, &all, &before);
      require(error == 0, "pthread_sigmask: {}", system_error_text(error));
    }
    ~Blocked() { (void)pthread_sigmask(SIG_SETMASK, &before, nullptr); }
    Blocked(const Blocked&) = delete;
    Blocked& operator=(const Blocked&) = delete;
    sigset_t before{};
  };
  const Blocked blocked;
  return start_thread(purpose, std::forward<Body>(body));
}

}  // namespace tutti
