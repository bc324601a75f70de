#include "launcher/run/stop_signal.h"

#include <tutti/core/error.h>
#include <tutti/core/system_check.h>

#include <cerrno>
#include <csignal>

namespace tutti {
namespace {

volatile std::sig_atomic_t signalled = 0;

void on_signal(int number) {
  if (signalled != 0 && number == SIGINT) {
    std::signal(SIGINT, SIG_DFL);
    (void)std::raise(SIGINT);
  }
  signalled = 1;
}

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = &on_signal;
  action.sa_flags = SA_RESTART;
  for (const int number : {SIGTERM, SIGUSR1, SIGINT}) {
    require_system(sigaction(number, &action, nullptr) == 0, "cannot catch signal {}", number);
  }
}

bool stop_signalled() noexcept {
  return signalled != 0;
}

}  // namespace tutti
