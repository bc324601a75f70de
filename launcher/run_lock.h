#pragma once

#include <chrono>
#include <filesystem>

namespace tutti {

/// Keeps a second run out of a run directory, where both would write the same files. The system gives the
/// lock up when the process ends, however that happens. File systems without locks let everybody in, and so
/// does the lock of another host, which may have gone away without giving it up.
class RunLock {
 public:
  /// Waits up to `patience` for an earlier holder on this host to end. Throws Error naming its process if it
  /// does not, or if the file cannot be made.
  RunLock(std::filesystem::path path, std::chrono::milliseconds patience);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  std::filesystem::path path_;
  int file_ = -1;
};

}  // namespace tutti
