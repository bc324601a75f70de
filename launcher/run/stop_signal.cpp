#include "launcher/run/stop_signal.h"

#include <tutti/core/error.h>
#include "comm/rank_variables.h"
#include "core/system_check.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>

extern char** environ;

namespace tutti {
namespace {

// Used by the handler: lock-free atomics are safe there.
std::atomic<bool> signalled{false};
std::atomic<bool> saves{false};
std::atomic<int> code_at_end{-1};
bool acknowledges = true;
bool hangup_ignored = false;
bool hangup_known = false;
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void acknowledge(int number) {
  const bool interactive = number == SIGINT;
  constexpr std::string_view kAgain = "; press Ctrl-C again to end without saving";
  constexpr std::string_view kSaves = "\ntutti: asked to stop: saving after this step";
  constexpr std::string_view kStarts = "\ntutti: asked to stop: ending before the first step";
  const std::string_view what = saves ? kSaves : kStarts;
  char text[160];
  size_t length = 0;
  const auto add = [&](std::string_view part) {
    std::memcpy(text + length, part.data(), part.size());
    length += part.size();
  };
  add(isatty(STDERR_FILENO) == 1 ? what : what.substr(1));  // a terminal may show a progress bar
  if (interactive && saves) add(kAgain);
  add("\n");
  (void)!write(STDERR_FILENO, text, length);
}

void on_signal(int number) {
  const int error = errno;
  if (const int code = code_at_end; code >= 0) {
    if (number != SIGUSR1 && number != SIGUSR2) _exit(code);
  } else if (signalled && number == SIGINT) {
    (void)std::signal(SIGINT, SIG_DFL);
    (void)std::raise(SIGINT);
  } else if (!signalled.exchange(true) && acknowledges) {
    acknowledge(number);
  }
  errno = error;
}

/// Whether the environment of a launcher shows that this is not rank 0.
bool is_other_rank(char** environment) {
  const auto is_other = [&](std::string_view variable) {
    for (char** entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
      const std::string_view text = *entry;
      if (text.starts_with(variable) && text.substr(variable.size()).starts_with('=') &&
          text.substr(variable.size() + 1) != "0")
        return true;
    }
    return false;
  };
  // srun without an MPI plugin sets its own variable alone.
  return is_other("SLURM_PROCID") ||
         std::any_of(kMpiRankVariables.begin(), kMpiRankVariables.end(), is_other);
}

}  // namespace

bool catch_stop_signals(char** environment) noexcept {
  acknowledges = !is_other_rank(environment);
  struct sigaction action {};
  action.sa_handler = &on_signal;
  action.sa_flags = SA_RESTART;
  for (const int number : kStopSignals) {
    if (number == SIGHUP && !hangup_known) {
      // Only the first time: UCX, which MPI libraries load, installs a SIGHUP handler, whether it was ignored
      // or not.
      struct sigaction before {};
      if (sigaction(SIGHUP, nullptr, &before) != 0) return false;
      hangup_ignored = before.sa_handler == SIG_IGN;
      hangup_known = true;
    }
    action.sa_handler = number == SIGHUP && hangup_ignored ? SIG_IGN : &on_signal;
    if (sigaction(number, &action, nullptr) != 0) return false;
  }
  action.sa_handler = SIG_IGN;
  return sigaction(SIGPIPE, &action, nullptr) == 0 && sigaction(SIGXFSZ, &action, nullptr) == 0;
}

void catch_stop_signals() {
  require_system(catch_stop_signals(environ), "signals cannot be caught");
}

bool stop_signalled() noexcept {
  return signalled;
}

void stops_save_now() noexcept {
  saves = true;
}

void stops_end_now(int exit_code) noexcept {
  code_at_end = exit_code;
}

}  // namespace tutti
