#include "launcher/launch/exit_status.h"

#include "launcher/launch/adapter.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Reason = ExitStatus::Reason;

constexpr int kPreemptedCode = 75;    // EX_TEMPFAIL of sysexits.h
constexpr int kDaemonLostCode = 205;  // Open MPI: a daemon, and so a host, was lost
constexpr int kNotReachedCode = 255;  // ssh, and so mpirun: a host could not be reached
constexpr int kSignalBase = 128;
constexpr int kMostSignals = 64;

std::string_view signal_name(int signal) {
  constexpr std::array kNames{std::pair{SIGABRT, "SIGABRT, an abort"},
                              std::pair{SIGSEGV, "SIGSEGV, a bad memory access"},
                              std::pair{SIGBUS, "SIGBUS, a bad memory access or a full /dev/shm"},
                              std::pair{SIGFPE, "SIGFPE, a bad division"},
                              std::pair{SIGILL, "SIGILL, an instruction that the CPU lacks"},
                              std::pair{SIGTERM, "SIGTERM"},
                              std::pair{SIGINT, "SIGINT"},
                              std::pair{SIGKILL, "SIGKILL"},
                              std::pair{SIGUSR1, "SIGUSR1"},
                              std::pair{SIGHUP, "SIGHUP"},
                              std::pair{SIGPIPE, "SIGPIPE, a connection to another rank that broke"}};
  for (const auto& [number, text] : kNames) {
    if (number == signal) return text;
  }
  return "a signal";
}

/// Whether a small number that is not an exit code of tutti is a signal that ends programs.
bool is_deadly(int number) {
  constexpr std::array kDeadly{SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGTERM};
  return std::find(kDeadly.begin(), kDeadly.end(), number) != kDeadly.end();
}

std::string at(const std::vector<std::string>& hosts) {
  return hosts.empty() ? "" : fmt::format(" on {}", fmt::join(hosts, ", "));
}

/// The number behind a key in lines of "key number"; -1 without it.
int64_t counter(const fs::path& path, std::string_view key) {
  std::ifstream file(path);
  std::string word;
  int64_t value = 0;
  while (file >> word >> value) {
    if (word == key) return value;
  }
  return -1;
}

/// The control group of the whole job where a scheduler gives each of its steps one of its own.
std::string job_group(const std::string& group) {
  for (const Adapter* adapter : adapters()) {
    if (adapter->job_group == nullptr) continue;
    if (const std::string_view job = adapter->job_group(group); !job.empty()) return std::string(job);
  }
  return group;
}

}  // namespace

std::string_view name(Reason reason) {
  switch (reason) {
    case Reason::kDone:
      return "done";
    case Reason::kPreempted:
      return "preempted and saved";
    case Reason::kStopped:
      return "stopped";
    case Reason::kOutOfMemory:
      return "out of memory";
    case Reason::kKilled:
      return "killed";
    case Reason::kSignal:
      return "signal";
    case Reason::kHostLost:
      return "host lost";
    case Reason::kIsolated:
      return "host isolated";
    case Reason::kNotStarted:
      return "not started";
    case Reason::kUsage:
      return "wrong usage";
    case Reason::kError:
      return "error";
  }
  return "error";
}

ExitStatus classify(const ExitEvidence& evidence) {
  // A starter such as srun gives the highest of the ranks' codes: that of one whose connection to the failed
  // one broke, or that was ended after it.
  const bool followed = evidence.saw_kill && evidence.exit_code == kSignalBase + SIGPIPE;
  int code = followed ? kSignalBase + SIGKILL : evidence.exit_code;
  if (code != 0 && evidence.first_code != 0) code = evidence.first_code;
  if (evidence.bare_signals && is_deadly(code)) code += kSignalBase;
  ExitStatus end{.reason = Reason::kError, .exit_code = code, .hosts = evidence.hosts};
  if (code > kSignalBase && code <= kSignalBase + kMostSignals) end.signal = code - kSignalBase;
  if (evidence.run_reason == "stopped" || code == kPreemptedCode) {
    end = {.reason = Reason::kPreempted,
           .exit_code = kPreemptedCode,
           .text = "asked to stop, and a checkpoint was saved; --resume continues from it"};
  } else if (code == 0) {
    end.reason = Reason::kDone;
    end.text = "done";
  } else if (evidence.oom_kills > 0 || evidence.saw_memory) {
    end.reason = Reason::kOutOfMemory;
    end.exit_code = kSignalBase + SIGKILL;
    end.signal = SIGKILL;
    end.text = fmt::format(
        "a rank was killed{} because its host or job was out of memory; ask for more memory{}, or set "
        "train.microbatch lower",
        at(evidence.hosts),
        evidence.memory_option.empty() ? "" : fmt::format(" ({})", evidence.memory_option));
  } else if (evidence.stop_requested) {
    end.reason = Reason::kStopped;
    end.text =
        "asked to stop, and ended without a checkpoint: see the messages above, or set a longer --grace";
  } else if (evidence.isolated) {
    end.exit_code = kDaemonLostCode;
    end.signal = 0;
    end.reason = Reason::kIsolated;
    end.hosts.clear();
    end.text =
        "this host is isolated from all others of the launch: its ranks are ended, and the failure is "
        "attributed to "
        "no host; --resume continues from the last checkpoint";
  } else if (code == kDaemonLostCode || evidence.saw_loss) {
    end.exit_code = kDaemonLostCode;
    end.signal = 0;
    end.reason = Reason::kHostLost;
    end.text = fmt::format("a host{}, or the link to it, was lost", at(evidence.hosts));
  } else if (end.signal == SIGKILL) {
    end.reason = Reason::kKilled;
    end.text = fmt::format("a rank was killed (SIGKILL){}, and not for memory as far as this host reports",
                           at(evidence.hosts));
  } else if (end.signal != 0) {
    end.reason = Reason::kSignal;
    end.text = fmt::format("a rank ended by {}{}", signal_name(end.signal), at(evidence.hosts));
  } else if (code == kNotReachedCode) {
    end.reason = Reason::kNotStarted;
    end.signal = 0;
    end.text = fmt::format(
        "the ranks could not be started on all hosts{}: a remote shell, or the program that it starts, "
        "failed "
        "(exit code 255); see its message above",
        evidence.hosts.empty() ? "" : fmt::format(" ({})", fmt::join(evidence.hosts, ", ")));
  } else if (code == 2) {
    end.reason = Reason::kUsage;
    end.text = "the command is not valid; see its message above";
  } else {
    end.text = fmt::format("an error{}, exit code {}; see its message above", at(evidence.hosts), code);
  }
  return end;
}

void FailureAttribution::read_line(std::string_view line) {
  take(parse_mpirun_message(line));
  // All adapters, because mpirun also may start its daemons by a scheduler's own command.
  for (const Adapter* adapter : adapters()) {
    if (adapter->parse_message != nullptr) take(adapter->parse_message(line));
  }
}

void FailureAttribution::take(const FailureMessage& message) {
  aborted_ = aborted_ || message.aborted;
  saw_memory_ = saw_memory_ || message.out_of_memory;
  if (aborted_ || message.host.empty() || message.consequence) return;
  if (message.host_lost) {
    // Ranks that fail after it are consequences.
    saw_loss_ = true;
    aborted_ = true;
  }
  saw_kill_ = saw_kill_ || message.killed;
  if (first_code_ == 0) first_code_ = message.exit_code;
  if (std::find(hosts_.begin(), hosts_.end(), message.host) == hosts_.end()) hosts_.push_back(message.host);
}

int64_t oom_kills(std::string_view self, const fs::path& root) {
  std::istringstream lines{std::string(self)};
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = job_group(line.substr(second + 1));
    int64_t count = -1;
    if (controllers.empty()) {
      count = counter(root / group.substr(1) / "memory.events", "oom_kill");
      if (count < 0) count = counter(root / "unified" / group.substr(1) / "memory.events", "oom_kill");
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      count = counter(root / "memory" / group.substr(1) / "memory.oom_control", "oom_kill");
    }
    if (count >= 0) return count;
  }
  return 0;
}

int64_t oom_kills_here() {
  std::ifstream file("/proc/self/cgroup");
  const std::string self{std::istreambuf_iterator<char>(file), {}};
  return oom_kills(self, "/sys/fs/cgroup");
}

}  // namespace tutti
