#include "launcher/metrics/record_file.h"

#include <tutti/core/error.h>
#include <tutti/core/file/place.h>
#include <tutti/core/system_check.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

namespace tutti {
namespace {

constexpr std::chrono::seconds kFlushInterval{1};
constexpr size_t kMostPendingBytes = 1 << 20;

}  // namespace

RecordFile::RecordFile(std::filesystem::path path)
    : path_(std::move(path)), flushed_(std::chrono::steady_clock::now()) {
  fd_ = open_regular(path_, O_WRONLY | O_APPEND | O_CREAT);
}

RecordFile::~RecordFile() {
  try {
    flush();
  } catch (const std::exception&) {
    // Nobody is left to be told; sync() has reported what mattered.
  }
  (void)close(fd_);
}

void RecordFile::append(std::string_view record) {
  pending_ += record;
  const bool due = std::chrono::steady_clock::now() - flushed_ >= kFlushInterval;
  if (due || pending_.size() > kMostPendingBytes) flush();
}

void RecordFile::flush() {
  flushed_ = std::chrono::steady_clock::now();
  std::string_view left = pending_;
  while (!left.empty()) {
    const ssize_t written = write(fd_, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const std::string reason = system_error_text(errno);
      pending_.erase(0, pending_.size() - left.size());
      fail("{}: cannot be written: {}", path_.string(), reason);
    }
    left.remove_prefix(static_cast<size_t>(written));
  }
  pending_.clear();
}

void RecordFile::sync() {
  flush();
  // A file system that cannot sync says EINVAL or EROFS; it needs no sync either.
  require_system(fdatasync(fd_) == 0 || errno == EINVAL || errno == EROFS, "{}: cannot be put on the disk",
                 path_.string());
}

}  // namespace tutti
