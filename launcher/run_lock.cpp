#include "launcher/run_lock.h"

#include "launcher/placement.h"

#include <tutti/core/error.h>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>
#include <thread>
#include <utility>

namespace tutti {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPoll = std::chrono::milliseconds(100);

/// "process 4711 on node1", as the holder wrote it.
std::string holder_of(int file) {
  std::array<char, 512> buffer{};
  const ssize_t n = pread(file, buffer.data(), buffer.size(), 0);
  return n > 0 ? std::string(buffer.data(), static_cast<size_t>(n)) : "";
}

}  // namespace

RunLock::RunLock(std::filesystem::path path, std::chrono::milliseconds patience) : path_(std::move(path)) {
  file_ = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  require(file_ >= 0, "{}: cannot be made: {}", path_.string(), system_error_text(errno));
  const auto deadline = Clock::now() + patience;
  while (flock(file_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return;  // no locks on this file system
    if (Clock::now() > deadline) {
      const std::string holder = holder_of(file_);
      if (!holder.ends_with(" on " + host_name())) return;
      (void)close(std::exchange(file_, -1));
      fail("{}: a run is at work there: {}. End it first, or choose another run.dir",
           path_.parent_path().string(), holder);
    }
    std::this_thread::sleep_for(kPoll);
  }
  const std::string text = fmt::format("process {} on {}", getpid(), host_name());
  // Without its text, as on a full disk, it keeps nobody out.
  (void)!(ftruncate(file_, 0) == 0 && pwrite(file_, text.data(), text.size(), 0) >= 0);
}

RunLock::~RunLock() {
  if (file_ >= 0) (void)close(file_);
}

}  // namespace tutti
