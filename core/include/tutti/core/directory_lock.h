#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

namespace tutti {

/// A process as described in its lock file.
struct LockHolder {
  std::string host;
  std::string kernel;     ///< boot id: equal for all processes of one kernel
  std::string processes;  ///< PID namespace
  int64_t pid = 0;
  int64_t started = 0;  ///< start time of that process in kernel ticks: distinguishes reused PIDs
  std::string job;      ///< scheduler job; empty without one

  /// This process.
  static LockHolder self();
};

struct LockOptions {
  std::string subject = "a run";  ///< what holds the lock, for messages
  std::string advice;             ///< advice in messages: "End it first, or choose another run.dir"
  /// How long to wait for a live holder.
  std::chrono::milliseconds timeout{500};
  /// A holder of the same job is replaced after that time: the caller knows that its attempt has ended.
  bool supersedes_own_job = false;
  /// Interval at which the holder updates the lock file.
  std::chrono::milliseconds heartbeat{3000};
  /// On another kernel, a holder without an update for this long is dead.
  std::chrono::milliseconds stale{30000};
  LockHolder self = LockHolder::self();
  /// Called while waiting for the lock; true cancels the wait. Empty: never.
  std::function<bool()> cancelled;
  /// Receives a line if the lock of another host must be monitored. May be empty.
  std::function<void(const std::string& text)> log;
};

/// An exclusive lock of a directory that one process writes to, for all hosts that share it. A file in the
/// directory is the lock; it is created by link(2), which is atomic on cluster file systems, with or without
/// flock(2).
///
/// A dead holder is not waited for. On the same kernel its process and its flock show this immediately. On
/// another kernel, the holder updates the modification time of the file; the waiting process measures the
/// time without an update with its own clock, so clocks need not agree. A holder that was suspended for
/// longer, and was replaced, detects this by reading the file at each heartbeat: see held().
class DirectoryLock {
 public:
  /// Acquires the lock `file`. Throws Error naming the holder if one is alive after the timeout, or with the
  /// path if the file cannot be created, is not a regular file, or the wait is cancelled.
  DirectoryLock(std::filesystem::path file, LockOptions options);
  /// Releases the lock.
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  /// False once another process has replaced this holder.
  [[nodiscard]] bool held() const noexcept;
  /// Throws Error with the other process unless held().
  void require_held() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tutti
