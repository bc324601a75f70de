#include "launcher/launch/stop_request.h"

#include <tutti/core/error.h>
#include "core/system_check.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <string>

namespace tutti {
namespace {

bool is_one_of(pid_t process, const std::vector<std::string_view>& programs) {
  std::ifstream file(fmt::format("/proc/{}/comm", process));
  std::string name;
  std::getline(file, name);
  return std::any_of(programs.begin(), programs.end(),
                     [&](std::string_view program) { return name.starts_with(program); });
}

}  // namespace

Signals::Signals() : descriptor_(signalfd(-1, &blocked_.set(), SFD_NONBLOCK | SFD_CLOEXEC)) {
  require_system(descriptor_.number() >= 0, "signalfd");
}

Signals::Received Signals::next() {
  signalfd_siginfo info{};
  const ssize_t n = read(descriptor_.number(), &info, sizeof info);
  if (n != static_cast<ssize_t>(sizeof info)) return {};
  return {static_cast<int>(info.ssi_signo), static_cast<pid_t>(info.ssi_pid)};
}

bool StopRequest::poll() {
  const bool before = requested;
  for (Signals::Received signal = signals.next(); signal.number != 0; signal = signals.next()) {
    if (signal.number == SIGCHLD || signal.number == SIGUSR2) continue;
    if (requested && (signal.number == SIGINT || signal.number == SIGTERM)) immediate = true;
    if (!requested) receive(signal);
  }
  if (!requested && Clock::now() >= limit) receive({.number = SIGUSR1});
  return requested && !before;
}

void StopRequest::wait_for_end(double seconds) {
  const auto end =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  constexpr int kTickMs = 100;
  while (Clock::now() < end) {
    pollfd wait{signals.descriptor(), POLLIN, 0};
    (void)::poll(&wait, 1, kTickMs);
    for (Signals::Received signal = signals.next(); signal.number != 0; signal = signals.next()) {
      if (signal.number == SIGTERM || signal.number == SIGINT) return;
    }
  }
}

void StopRequest::receive(const Signals::Received& signal) {
  requested = true;
  first_signal = signal.number;
  by_scheduler = signal.sender > 0 && is_one_of(signal.sender, daemons);
  since = Clock::now();
}

}  // namespace tutti
