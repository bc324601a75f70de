#include "core/signal_thread.h"

#include <tutti/core/error.h>
#include "core/affinity.h"
#include "core/start_thread.h"
#include "core/system_check.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

namespace tutti {
namespace {

// Signals raised by the instructions and calls of a thread must be delivered to it. SIGPROF samples the
// thread that receives it, and terminal access behaves differently in a thread that blocks SIGTTIN or
// SIGTTOU.
constexpr int kOwn[] = {SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGTRAP, SIGSYS,
                        SIGABRT, SIGPIPE, SIGXFSZ, SIGPROF, SIGTTIN, SIGTTOU};

}  // namespace

SignalThread::SignalThread() : ended_(eventfd(0, EFD_CLOEXEC)) {
  require_system(ended_ >= 0, "eventfd");
  sigset_t held;
  (void)sigfillset(&held);
  for (const int number : kOwn) (void)sigdelset(&held, number);
  if (const int error = pthread_sigmask(SIG_BLOCK, &held, &before_); error != 0) {
    (void)close(ended_);
    fail("pthread_sigmask: {}", system_error_text(error));
  }
  try {
    thread_ = start_thread("signals", [this] {
      unbind_caller();
      (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr);
      pollfd end{.fd = ended_, .events = POLLIN, .revents = 0};
      while (poll(&end, 1, -1) < 0 && errno == EINTR) continue;
    });
  } catch (...) {
    (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    (void)close(ended_);
    throw;
  }
}

SignalThread::~SignalThread() {
  (void)eventfd_write(ended_, 1);
  thread_.join();
  (void)close(ended_);
  (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace tutti
