#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace tutti {

/// A process as the file of its lock describes it.
struct LockHolder {
  std::string host;
  std::string kernel;     ///< the boot's id: equal for all that share one kernel
  std::string processes;  ///< the name space that numbers its processes
  int64_t pid = 0;
  int64_t started = 0;  ///< of that process, in the kernel's ticks: a number that is used again has another
  std::string job;      ///< of a scheduler; empty without one

  /// This process.
  static LockHolder self();
};

struct LockOptions {
  std::string subject = "a run";  ///< what is at work where the lock is held, for messages
  std::string advice;             ///< what to do then: "End it first, or choose another run.dir"
  /// So long a holder that is alive is waited for.
  std::chrono::milliseconds patience{500};
  /// A holder of the same job gives way after that: whoever asks has seen the end of that attempt.
  bool supersedes_own_job = false;
  /// The holder shows so often that it lives.
  std::chrono::milliseconds beat{3000};
  /// On another kernel, a holder that has not done so for this long is dead.
  std::chrono::milliseconds stale{30000};
  LockHolder self = LockHolder::self();
  /// Asked while the lock is waited for; true gives up. Empty: never.
  std::function<bool()> cancelled;
  /// Gets a line where the lock of another host must be watched. Empty: nobody.
  std::function<void(const std::string& text)> say;
};

/// Keeps others out of a directory that one process writes to, on all hosts that share it. A file in the
/// directory is the lock; its name is taken by link(2), which file systems of clusters do atomically, with
/// flock(2) or without.
///
/// Nobody waits for a holder that is dead. On the same kernel the process's end and its flock tell at once.
/// On another one, the holder renews the file's time of change; the time that passes without a change is
/// measured by the clock of whoever waits, so clocks need not agree. A holder that was stopped for so long,
/// and is replaced, learns of it by reading the file back at each beat: see held().
class DirectoryLock {
 public:
  /// Takes the lock `file`. Throws Error naming the holder if one is alive for longer than the patience, or
  /// with the path if the file cannot be made, is no regular file, or the wait is cancelled.
  DirectoryLock(std::filesystem::path file, LockOptions options);
  /// Gives it up.
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  /// False once another process has taken the lock: this one was taken for dead.
  [[nodiscard]] bool held() const noexcept;
  /// Throws Error naming the other process unless held().
  void require_held() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tutti
