#include "launcher/launch/ending.h"

#include "launcher/launch/words.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <csignal>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Reason = Ending::Reason;

constexpr int kPreemptedCode = 75;    // EX_TEMPFAIL of sysexits.h
constexpr int kDaemonLostCode = 205;  // Open MPI: a daemon, and so a host, went away
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

/// Whether a small number that is no exit code of tutti is a signal by which programs end.
bool is_deadly(int number) {
  constexpr std::array kDeadly{SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGKILL, SIGSEGV, SIGPIPE, SIGTERM};
  return std::find(kDeadly.begin(), kDeadly.end(), number) != kDeadly.end();
}

std::string at(const std::vector<std::string>& hosts) {
  return hosts.empty() ? "" : fmt::format(" on {}", fmt::join(hosts, ", "));
}

/// The word behind `sign` in the line, without what ends it.
std::string word_after(std::string_view line, std::string_view sign) {
  const size_t found = line.find(sign);
  if (found == std::string_view::npos) return "";
  std::string_view rest = line.substr(found + sign.size());
  rest = rest.substr(0, rest.find_first_of(" \t\n,:;"));
  while (rest.ends_with('.')) rest.remove_suffix(1);
  return std::string(rest);
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

/// The group of the whole job where Slurm has put each of its steps into one of their own.
std::string job_group(const std::string& group) {
  const size_t job = group.find("/job_");
  return job == std::string::npos ? group : group.substr(0, group.find('/', job + 1));
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

Ending label(const EndFacts& facts) {
  // srun gives the highest of the ranks' codes: that of one whose connection to the dead one broke, or that
  // was ended after it.
  const bool followed = facts.saw_kill && facts.exit_code == kSignalBase + SIGPIPE;
  int code = followed ? kSignalBase + SIGKILL : facts.exit_code;
  if (code != 0 && facts.first_code != 0) code = facts.first_code;
  if (facts.bare_signals && is_deadly(code)) code += kSignalBase;
  Ending end{.reason = Reason::kError, .exit_code = code, .hosts = facts.hosts};
  if (code > kSignalBase && code <= kSignalBase + kMostSignals) end.signal = code - kSignalBase;
  if (facts.run_reason == "stopped" || code == kPreemptedCode) {
    end = {.reason = Reason::kPreempted,
           .exit_code = kPreemptedCode,
           .text = "asked to stop, and a checkpoint was saved; --resume goes on from it"};
  } else if (code == 0) {
    end.reason = Reason::kDone;
    end.text = "done";
  } else if (facts.oom_kills > 0 || facts.saw_memory) {
    end.reason = Reason::kOutOfMemory;
    end.exit_code = kSignalBase + SIGKILL;
    end.signal = SIGKILL;
    end.text = fmt::format(
        "a rank was killed{} because its host or job was out of memory; ask for more memory (Slurm: "
        "--directive=--mem=64G), or set train.microbatch lower",
        at(facts.hosts));
  } else if (facts.asked_to_stop) {
    end.reason = Reason::kStopped;
    end.text =
        "asked to stop, and ended without having saved a checkpoint: a message above says why, or --grace "
        "gives "
        "it longer";
  } else if (facts.isolated) {
    end.exit_code = kDaemonLostCode;
    end.signal = 0;
    end.reason = Reason::kIsolated;
    end.hosts.clear();
    end.text =
        "this host is cut off from all others of the launch: its ranks are ended, and no host is blamed; "
        "--resume goes on from the last checkpoint";
  } else if (code == kDaemonLostCode || facts.saw_loss) {
    end.exit_code = kDaemonLostCode;
    end.signal = 0;
    end.reason = Reason::kHostLost;
    end.text = fmt::format("a host{}, or the link to it, was lost", at(facts.hosts));
  } else if (end.signal == SIGKILL) {
    end.reason = Reason::kKilled;
    end.text = fmt::format("a rank was killed (SIGKILL){}, and not for memory as far as this host counts",
                           at(facts.hosts));
  } else if (end.signal != 0) {
    end.reason = Reason::kSignal;
    end.text = fmt::format("a rank ended by {}{}", signal_name(end.signal), at(facts.hosts));
  } else if (code == kNotReachedCode) {
    end.reason = Reason::kNotStarted;
    end.signal = 0;
    end.text = fmt::format(
        "the ranks could not be started on all hosts{}: a remote shell, or what it starts there, failed "
        "(exit "
        "code 255); its message stands above",
        facts.hosts.empty() ? "" : fmt::format(" ({})", fmt::join(facts.hosts, ", ")));
  } else if (code == 2) {
    end.reason = Reason::kUsage;
    end.text = "the command cannot be understood; its message stands above";
  } else {
    end.text = fmt::format("an error{}, exit code {}; its message stands above", at(facts.hosts), code);
  }
  return end;
}

std::string blamed_host(std::string_view line) {
  std::string host;
  if (line.find("Remote daemon:") != std::string_view::npos ||
      line.find("noticed that process rank") != std::string_view::npos) {
    host = word_after(line, " on node ");  // Open MPI: a daemon went away, a rank died
  } else if (line.starts_with("srun: error: ")) {
    // "srun: error: node2: task 1: Killed", "srun: error: Node failure on node2"
    if (line.find("Node failure on ") != std::string_view::npos) {
      host = word_after(line, "Node failure on ");
    } else if (const std::string first = word_after(line, "srun: error: ");
               line.find("srun: error: " + first + ": task") == 0) {
      host = first;
    }
  }
  return is_host_name(host) ? host : "";
}

int told_code(std::string_view line) {
  if (!line.starts_with("srun: error: ")) return 0;
  const size_t task = line.find(": task");
  if (task == std::string_view::npos) return 0;
  const size_t colon = line.find(": ", task + 2);
  if (colon == std::string_view::npos) return 0;
  const std::string_view how = line.substr(colon + 2);
  constexpr std::string_view kCode = "Exited with exit code ";
  if (how.starts_with(kCode)) {
    int code = 0;
    (void)std::from_chars(how.data() + kCode.size(), how.data() + how.size(), code);
    return code;
  }
  if (how.starts_with("Out Of Memory")) return kSignalBase + SIGKILL;
  for (int signal = 1; signal <= kMostSignals; ++signal) {
    const char* text = sigdescr_np(signal);
    if (text != nullptr && how.starts_with(text)) return kSignalBase + signal;
  }
  return 0;
}

bool tells_out_of_memory(std::string_view line) {
  const auto holds = [&](std::string_view text) { return line.find(text) != std::string_view::npos; };
  if (line.starts_with("srun: error: ")) return holds(": task") && holds(": Out Of Memory");
  // "slurmstepd: error: Detected 1 oom_kill event in StepId=4.0", "Detected 2 oom-kill event(s) in step 4.0
  // cgroup", "StepId=4.0 exceeded memory limit (2100 > 2048), being killed", "Exceeded job memory limit".
  if (!line.starts_with("slurmstepd")) return false;
  return holds("oom_kill event") || holds("oom-kill event") || holds("exceeded memory limit") ||
         (holds("Exceeded ") && holds(" memory limit"));
}

void Blame::look_at(std::string_view line) {
  const auto holds = [&](std::string_view text) { return line.find(text) != std::string_view::npos; };
  if (holds("Job step aborted") || (holds("*** STEP ") && holds(" CANCELLED AT "))) aborted_ = true;
  if (tells_out_of_memory(line)) saw_memory_ = true;
  const std::string host = blamed_host(line);
  if (aborted_ || host.empty() || holds("Broken pipe")) return;
  if (holds("Node failure on ") || holds("Remote daemon:")) {
    // The ranks that then die of it are not why.
    saw_loss_ = true;
    aborted_ = true;
  }
  if (holds("Killed") || holds("exited on signal 9")) saw_kill_ = true;
  if (first_code_ == 0) first_code_ = told_code(line);
  if (std::find(hosts_.begin(), hosts_.end(), host) == hosts_.end()) hosts_.push_back(host);
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
