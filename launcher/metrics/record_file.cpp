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

RecordFile::RecordFile(std::filesystem::path path, Tell notify)
    : path_(std::move(path)), notify_(std::move(notify)), flushed_(std::chrono::steady_clock::now()) {
  settle([this] { open_file(); });
}

RecordFile::~RecordFile() {
  try {
    flush();
    const int64_t missing = lost_ + static_cast<int64_t>(sizes_.size());
    if (notify_ && missing > 0)
      notify_(fmt::format("{}: {} records were not written: {}", path_.string(), missing, problem_));
  } catch (const std::exception&) {
    // A destructor must not throw; sync() has reported the errors that matter.
  }
  if (fd_ >= 0) (void)close(fd_);
}

/// Whether the open file is still the one at the path. An unreadable path is assumed unchanged; the write
/// reports the error.
bool RecordFile::is_in_place() const {
  struct stat open {};
  struct stat now {};
  require_system(fstat(fd_, &open) == 0, "{}: cannot stat", path_.string());
  if (stat(path_.c_str(), &now) != 0) return errno != ENOENT && errno != ENOTDIR && errno != ELOOP;
  return same_file(open, now);
}

void RecordFile::open_file() {
  if (fd_ >= 0 && is_in_place()) return;
  if (fd_ >= 0) (void)close(std::exchange(fd_, -1));
  // A file created at the path since does not belong to this run.
  fd_ = open_regular(path_, O_WRONLY | O_APPEND | O_CREAT | (was_open_ ? O_EXCL : 0));
  if (!std::exchange(was_open_, true) || !notify_ || std::exchange(told_removal_, true)) return;
  notify_(fmt::format(
      "{}: was removed or moved during the run; a new file is started, earlier records are missing",
      path_.string()));
}

/// Runs `work` and records whether it succeeded.
void RecordFile::settle(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    const bool known = !std::exchange(problem_, error.what()).empty();
    if (!notify_) throw;
    if (!known) notify_(fmt::format("{}; training continues, and records are kept in memory", problem_));
    return;
  }
  if (std::exchange(problem_, "").empty()) return;
  if (!notify_) return;
  notify_(lost_ == 0 ? fmt::format("{}: writable again; no records are missing", path_.string())
                     : fmt::format("{}: writable again; {} records are missing", path_.string(), lost_));
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
  require(all, "{}: cannot write: {}", path_.string(), system_error_text(reason));
}

void RecordFile::sync() {
  flush();
  if (!problem_.empty()) return;
  settle([this] {
    // File systems without sync return EINVAL or EROFS; they do not need it.
    require_system(fdatasync(fd_) == 0 || errno == EINVAL || errno == EROFS, "{}: cannot sync",
                   path_.string());
  });
}

void RecordFile::check() const {
  require(problem_.empty(), "{}", problem_);
}

}  // namespace tutti
