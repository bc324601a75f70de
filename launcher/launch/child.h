#pragma once

#include "launcher/launch/environment.h"

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// A file descriptor that closes itself.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() { close(); }
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int number() const { return number_; }
  void close() noexcept;
  int release() noexcept;

 private:
  int number_ = -1;
};

/// A program under way in a process group of its own, so that a terminal's Ctrl-C reaches only this process,
/// which passes it on. It has no signal blocked, and gets SIGTERM if this process
/// dies. One thread starts and waits for children.
class Child {
 public:
  struct Streams {
    std::string input = "/dev/null";  ///< a file
    bool capture_out = false;
    bool capture_err = false;
  };
  /// Throws Error naming the program if it cannot be started. `argv[0]` is searched on the PATH of
  /// `variables`, which are all that it gets of an environment.
  static Child start(const std::vector<std::string>& argv, const Variables& variables,
                     const Streams& streams);

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// The end of a pipe, not blocking, for a stream that is captured.
  [[nodiscard]] const Descriptor& out() const { return out_; }
  [[nodiscard]] const Descriptor& err() const { return err_; }
  /// Sends a signal to the program itself; nothing happens once it has ended.
  void send(int signal) noexcept;
  /// The wait status if it has ended.
  std::optional<int> poll_status();

 private:
  pid_t pid_ = -1;
  std::optional<int> status_;
  Descriptor out_;
  Descriptor err_;
};

/// The output of a short command.
struct Output {
  int exit_code = 0;  ///< 128 + signal for one that a signal ended
  std::string out;    ///< stdout
  std::string err;
};

/// Runs a command to its end. Throws Error if it cannot be started or takes longer than `timeout_s`; it is
/// killed then. `input` is a file that it reads.
Output run_to_end(const std::vector<std::string>& argv, const Variables& variables, double timeout_s,
                  const std::string& input = "/dev/null");

/// Makes this process the reaper of its orphaned descendants.
void adopt_orphans();

/// Waits `timeout` for the descendants of this process to end, kills those that remain, and waits for them;
/// launchers end those of remote hosts. Returns how many were killed.
int end_descendants(std::chrono::nanoseconds timeout = {});

/// Kills the ranks on this machine of the launch in job `job_id`, which a scheduler's daemon has started and
/// which are no descendants: processes of this program whose environment has the job's id as `variable`, and
/// TUTTI_LAUNCH_RANKS. Returns how many there were; 0 for an empty id or name.
int end_ranks_here(std::string_view variable, const std::string& job_id);

}  // namespace tutti
