#pragma once

#include "launcher/launch/failure_message.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Why the ranks of a launch ended.
struct Ending {
  enum class Reason : uint8_t {
    kDone,
    kPreempted,    ///< asked to stop, and a checkpoint was saved
    kStopped,      ///< asked to stop before anything could be saved
    kOutOfMemory,  ///< the kernel killed a rank over its memory limit
    kKilled,       ///< SIGKILL by someone else
    kSignal,       ///< another signal: a crash
    kHostLost,     ///< a host, its link or its daemon
    kIsolated,     ///< this host itself is cut off from all others
    kNotStarted,   ///< a host could not be reached to start ranks there
    kUsage,        ///< the command line cannot be understood
    kError,
  };
  Reason reason = Reason::kDone;
  int exit_code = 0;               ///< of the whole launch: 75 for kPreempted, 137 for kOutOfMemory, ...
  int signal = 0;                  ///< that ended a rank, where it is known
  std::vector<std::string> hosts;  ///< where it went wrong, as far as the launcher said
  std::string text;                ///< one sentence for people, with what to do next
};

/// "out of memory".
std::string_view name(Ending::Reason reason);

/// What there is to tell the reason from.
struct EndFacts {
  int exit_code = 0;          ///< of the program that started the ranks; 128 + n for signal n
  bool bare_signals = false;  ///< that program gives n alone for a rank that signal n ended, as Hydra does
  bool asked_to_stop = false;
  int64_t oom_kills = 0;           ///< processes that the kernel killed for memory meanwhile
  std::string run_reason;          ///< exit_reason of a summary.json written meanwhile; empty without one
  bool saw_kill = false;           ///< the launcher's messages say that a rank was killed
  bool saw_loss = false;           ///< they say that a host was lost
  bool saw_memory = false;         ///< they say that a rank was killed for memory
  bool isolated = false;           ///< no other host, nor the scheduler, could be reached from here
  int first_code = 0;              ///< that they give for the first rank that ended badly; 0: they give none
  std::vector<std::string> hosts;  ///< that they blame
  std::string_view memory_option;  ///< by which the scheduler is asked for more memory; empty: not known
};

/// The reason behind an exit code. mpirun loses the ranks' own code when it is asked to end, so that what the
/// run wrote about itself counts first.
Ending label(const EndFacts& facts);

/// Reads the messages of the program that started the ranks, line by line, for who is to blame. What comes
/// after a job step was aborted or a host was lost follows from it, as does a rank that died because
/// another's connection broke.
class Blame {
 public:
  void look_at(std::string_view line);
  [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }
  [[nodiscard]] bool saw_kill() const { return saw_kill_; }
  [[nodiscard]] bool saw_loss() const { return saw_loss_; }
  [[nodiscard]] bool saw_memory() const { return saw_memory_; }
  /// The exit code of the first rank that ended badly, 128 + n for signal n; 0 as long as none has.
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
