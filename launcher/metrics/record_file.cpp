#include "launcher/metrics/record_file.h"

#include <tutti/core/error.h>
#include "core/io/resolved_path.h"
#include "core/system_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace tutti {
namespace {

constexpr std::chrono::seconds kFlushInterval{1};
constexpr size_t kMostPendingBytes = 1 << 20;

}  // namespace

RecordFile::RecordFile(std::filesystem::path path, Tell tell)
    : path_(std::move(path)), tell_(std::move(tell)), flushed_(std::chrono::steady_clock::now()) {
  settle([this] { open_file(); });
}

RecordFile::~RecordFile() {
  try {
    flush();
    const int64_t missing = lost_ + static_cast<int64_t>(sizes_.size());
    if (tell_ && missing > 0)
      tell_(fmt::format("{}: {} records could not be written: {}", path_.string(), missing, problem_));
  } catch (const std::exception&) {
    // Nobody is left to be told; sync() has reported what mattered.
  }
  if (fd_ >= 0) (void)close(fd_);
}

/// Whether the file that is open is still the one at the path. A path that cannot be looked at is taken for
/// good: the write says what is wrong.
bool RecordFile::is_in_place() const {
  struct stat open {};
  struct stat now {};
  require_system(fstat(fd_, &open) == 0, "{}: cannot be looked at", path_.string());
  if (stat(path_.c_str(), &now) != 0) return errno != ENOENT && errno != ENOTDIR && errno != ELOOP;
  return same_file(open, now);
}

void RecordFile::open_file() {
  if (fd_ >= 0 && is_in_place()) return;
  if (fd_ >= 0) (void)close(std::exchange(fd_, -1));
  // A file that has come to the path since is not this run's.
  fd_ = open_regular(path_, O_WRONLY | O_APPEND | O_CREAT | (was_open_ ? O_EXCL : 0));
  if (!std::exchange(was_open_, true) || !tell_ || std::exchange(told_removal_, true)) return;
  tell_(
      fmt::format("{}: was removed or moved away while the run goes on; it is made anew, without the records "
                  "before",
                  path_.string()));
}

/// Runs `work` and takes note of how it went.
void RecordFile::settle(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    const bool known = !std::exchange(problem_, error.what()).empty();
    if (!tell_) throw;
    if (!known) tell_(fmt::format("{}; training goes on, and records are kept for later", problem_));
    return;
  }
  if (std::exchange(problem_, "").empty()) return;
  if (!tell_) return;
  tell_(lost_ == 0 ? fmt::format("{}: can be written again; nothing is missing", path_.string())
                   : fmt::format("{}: can be written again; {} records are missing", path_.string(), lost_));
  lost_ = 0;
}

void RecordFile::append(std::string_view record) {
  if (kept_.size() + record.size() > kMostKeptBytes) {
    ++lost_;
  } else {
    kept_ += record;
    sizes_.push_back(record.size());
  }
  const bool due = std::chrono::steady_clock::now() - flushed_ >= kFlushInterval;
  if (due || (problem_.empty() && kept_.size() > kMostPendingBytes)) flush();
}

void RecordFile::flush() {
  flushed_ = std::chrono::steady_clock::now();
  settle([this] {
    open_file();
    write_kept();
  });
}

void RecordFile::write_kept() {
  size_t done = 0;
  int reason = 0;
  while (done < kept_.size()) {
    const ssize_t written = write(fd_, kept_.data() + done, kept_.size() - done);
    reason = errno;
    if (written < 0 && reason == EINTR) continue;
    if (written < 0) break;
    done += static_cast<size_t>(written);
  }
  const bool all = done == kept_.size();
  kept_.erase(0, done);
  while (!sizes_.empty() && sizes_.front() <= done) {
    done -= sizes_.front();
    sizes_.pop_front();
  }
  if (!sizes_.empty()) sizes_.front() -= done;
  require(all, "{}: cannot be written: {}", path_.string(), system_error_text(reason));
}

void RecordFile::sync() {
  flush();
  if (!problem_.empty()) return;
  settle([this] {
    // A file system that cannot sync says EINVAL or EROFS; it needs no sync either.
    require_system(fdatasync(fd_) == 0 || errno == EINVAL || errno == EROFS, "{}: cannot be put on the disk",
                   path_.string());
  });
}

void RecordFile::check() const {
  require(problem_.empty(), "{}", problem_);
}

}  // namespace tutti
