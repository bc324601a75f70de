#include "launcher/launch/blocked_signals.h"

#include <tutti/core/error.h>

namespace tutti {
namespace {

bool is_ignored(int signal) {
  struct sigaction action {};
  return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

BlockedSignals::BlockedSignals() {
  (void)sigemptyset(&set_);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD}) {
    // A blocked signal is received even if it is ignored.
    if (signal == SIGCHLD || !is_ignored(signal)) (void)sigaddset(&set_, signal);
  }
  require(pthread_sigmask(SIG_BLOCK, &set_, &before_) == 0, "pthread_sigmask failed");
}

BlockedSignals::~BlockedSignals() {
  (void)pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

}  // namespace tutti
