#pragma once

#include "launcher/launch/failure_message.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Why the ranks of a launch ended.
struct ExitStatus {
  enum class Reason : uint8_t {
    kDone,
    kPreempted,    ///< asked to stop, and a checkpoint was saved
    kStopped,      ///< asked to stop before anything could be saved
    kOutOfMemory,  ///< the kernel killed a rank over its memory limit
    kKilled,       ///< SIGKILL, and not by the kernel for memory
    kSignal,       ///< another signal: a crash
    kHostLost,     ///< a host, its link or its daemon
    kIsolated,     ///< this host cannot reach any other
    kNotStarted,   ///< a host could not be reached to start ranks there
    kUsage,        ///< the command line cannot be understood
    kError,
  };
  Reason reason = Reason::kDone;
  int exit_code = 0;               ///< of the whole launch: 75 for kPreempted, 137 for kOutOfMemory, ...
  int signal = 0;                  ///< that ended a rank, where it is known
  std::vector<std::string> hosts;  ///< on which ranks failed, as far as the messages say
  std::string text;                ///< a sentence for the user, with advice
};

/// "out of memory".
std::string_view name(ExitStatus::Reason reason);

/// What the reason is derived from.
struct ExitEvidence {
  int exit_code = 0;          ///< of the program that started the ranks; 128 + n for signal n
  bool bare_signals = false;  ///< that program gives n alone for a rank that signal n ended, as Hydra does
  bool stop_requested = false;
  int64_t oom_kills = 0;           ///< processes that the kernel killed for memory during the attempt
  std::string run_reason;          ///< exit_reason of the summary.json of the attempt; empty without one
  bool saw_kill = false;           ///< a message says that a rank was killed
  bool saw_loss = false;           ///< a message says, or the heartbeat found, that a host was lost
  bool saw_memory = false;         ///< a message says that a rank was killed for memory
  bool isolated = false;           ///< neither another host nor the scheduler could be reached
  int first_code = 0;              ///< of the first rank that failed, if a message gives it; 0: none does
  std::vector<std::string> hosts;  ///< to which the failure is attributed
  std::string_view memory_option;  ///< that requests more memory from the scheduler; empty: not known
};

/// The exit status of a launch. mpirun loses the exit code of its ranks when it is asked to end: what the run
/// has written in summary.json takes precedence.
ExitStatus classify(const ExitEvidence& evidence);

/// Reads the messages of the program that started the ranks, line by line, and attributes a failure
/// to hosts. Failures after a job step was aborted or a host was lost are consequences, as is that of a rank
/// whose connection to another broke.
class FailureAttribution {
 public:
  void read_line(std::string_view line);
  [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }
  [[nodiscard]] bool saw_kill() const { return saw_kill_; }
  [[nodiscard]] bool saw_loss() const { return saw_loss_; }
  [[nodiscard]] bool saw_memory() const { return saw_memory_; }
  /// The exit code of the first rank that failed, 128 + n for signal n; 0 if none has.
  [[nodiscard]] int first_code() const { return first_code_; }

 private:
  void take(const FailureMessage& message);

  std::vector<std::string> hosts_;
  bool saw_kill_ = false;
  bool saw_loss_ = false;
  bool saw_memory_ = false;
  int first_code_ = 0;
  bool aborted_ = false;
};

/// How many processes the kernel has killed so far because the control group of this job was out of memory;
/// 0 where it does not count. `self` is the text of /proc/self/cgroup, `root` where the groups are mounted.
int64_t oom_kills(std::string_view self, const std::filesystem::path& root);
int64_t oom_kills_here();

}  // namespace tutti
