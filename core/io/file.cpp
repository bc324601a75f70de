#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/io/target.h"
#include "core/system_check.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tutti {
namespace fs = std::filesystem;
namespace {

/// Closes a descriptor at the end of a scope; for reading only, where close() cannot lose data.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC)) {
    require_system(fd_ >= 0, "{}: cannot open", path.string());
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

/// The size of a regular file. Files to read are opened with O_NONBLOCK, because opening a FIFO would
/// otherwise block before it can be refused here.
size_t regular_size(const Descriptor& file, const fs::path& path) {
  struct stat status {};
  require_system(::fstat(file.fd(), &status) == 0, "{}: cannot stat", path.string());
  require(S_ISREG(status.st_mode), "{}: not a regular file", path.string());
  return static_cast<size_t>(status.st_size);
}

/// Git LFS stores this text in place of a file that has not been fetched: at most 1,024 bytes by its
/// specification.
void refuse_pointer(std::string_view content, const fs::path& path) {
  constexpr std::string_view kPointer = "version https://git-lfs.github.com/spec/";
  constexpr size_t kMostPointer = 1024;
  require(content.size() > kMostPointer || !content.starts_with(kPointer),
          "{}: is a Git LFS pointer; fetch the file (git lfs pull)", path.string());
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
  // O_NONBLOCK, because opening a FIFO would otherwise block; truncated once it is known to be a regular
  // file.
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
  require_system(fd_ >= 0, "{}: cannot create", path_.string());
  struct stat status {};
  const SystemCheck known = ::fstat(fd_, &status) == 0;
  const bool regular = known.ok() && S_ISREG(status.st_mode);
  const SystemCheck emptied = regular && (status.st_size == 0 || ::ftruncate(fd_, 0) == 0);
  if (!emptied.ok()) ::close(std::exchange(fd_, -1));
  require_system(known, "{}: cannot stat", path_.string());
  require(regular, "{}: is {}; expected a regular file", path_.string(), kind_of(status));
  require_system(emptied, "{}: cannot truncate", path_.string());
}

OutputFile OutputFile::create(const fs::path& path, unsigned mode, fs::path shown) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  require_system(fd >= 0, "{}: cannot create", shown.string());
  return {std::move(shown), fd, true};
}

OutputFile OutputFile::standard_output() {
  return {"standard output", STDOUT_FILENO, false};
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      owned_(other.owned_),
      bytes_(other.bytes_) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0 && owned_) ::close(fd_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  // Linux writes at most 2^31 - 4096 bytes at once.
  constexpr size_t kMost = size_t{1} << 30;
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), std::min(bytes.size(), kMost));
    if (written < 0 && errno == EINTR) continue;
    require_system(written > 0, "{}: cannot write at byte {}", path_.string(), bytes_);
    bytes_ += written;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFile::finish() {
  const int fd = std::exchange(fd_, -1);
  if (!owned_) return;
  const SystemCheck synced = ::fsync(fd) == 0;
  const SystemCheck closed = ::close(fd) == 0;
  require_system(synced, "{}: cannot sync", path_.string());
  require_system(closed, "{}: cannot close", path_.string());
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);
  const size_t size = regular_size(file, path);
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  if (size == 0) return mapped;  // mmap refuses a length of 0
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  require_system(data != MAP_FAILED, "{}: cannot map", path.string());
  mapped->data_ = static_cast<const std::byte*>(data);
  mapped->size_ = size;
  refuse_pointer({static_cast<const char*>(data), size}, path);
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void sync_directory(const fs::path& directory) {
  const Descriptor file(directory, O_RDONLY | O_DIRECTORY);
  // Some file systems cannot sync directories (EINVAL); they do not need it.
  require_system(::fsync(file.fd()) == 0 || errno == EINVAL, "{}: cannot sync", directory.string());
}

void replace_file(const fs::path& path, FunctionRef<void(OutputFile)> write) {
  FileTarget target(path, {.force = true, .make_directories = false});
  write(target.open());
  target.commit();
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  replace_file(path, [&](OutputFile file) {
    file.write(text);
    file.finish();
  });
}

std::string read_text_file(const fs::path& path, int64_t most) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);
  const size_t size = regular_size(file, path);
  require(static_cast<int64_t>(size) <= most, "{}: {} bytes long; expected at most {}", path.string(), size,
          most);
  std::string text(size, '\0');
  size_t got = 0;
  while (got < size) {
    const ssize_t count = ::read(file.fd(), text.data() + got, size - got);
    if (count < 0 && errno == EINTR) continue;
    require_system(count >= 0, "{}: cannot read", path.string());
    if (count == 0) break;  // the file was truncated meanwhile
    got += static_cast<size_t>(count);
  }
  text.resize(got);
  refuse_pointer(text, path);
  return text;
}

}  // namespace tutti
