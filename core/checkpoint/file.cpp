#include <tutti/core/checkpoint/file.h>
#include <tutti/core/error.h>

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
    require(fd_ >= 0, "{}: cannot open: {}", path.string(), system_error_text(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

/// The size of a regular file. Files to read are opened with O_NONBLOCK, because a FIFO would else wait for a
/// writer before it can be refused here.
size_t regular_size(const Descriptor& file, const fs::path& path) {
  struct stat status {};
  require(::fstat(file.fd(), &status) == 0, "{}: cannot stat: {}", path.string(), system_error_text(errno));
  require(S_ISREG(status.st_mode), "{}: not a regular file", path.string());
  return static_cast<size_t>(status.st_size);
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  require(fd_ >= 0, "{}: cannot create: {}", path_.string(), system_error_text(errno));
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  // Linux writes at most 2^31 - 4096 bytes at once.
  constexpr size_t kMost = size_t{1} << 30;
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), std::min(bytes.size(), kMost));
    if (written < 0 && errno == EINTR) continue;
    require(written > 0, "{}: cannot write at byte {}: {}", path_.string(), bytes_, system_error_text(errno));
    bytes_ += written;
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void OutputFile::finish() {
  require(::fsync(fd_) == 0, "{}: cannot sync: {}", path_.string(), system_error_text(errno));
  const int fd = std::exchange(fd_, -1);
  require(::close(fd) == 0, "{}: cannot close: {}", path_.string(), system_error_text(errno));
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  const Descriptor file(path, O_RDONLY | O_NONBLOCK);
  const size_t size = regular_size(file, path);
  std::shared_ptr<MappedFile> mapped(new MappedFile);
  if (size == 0) return mapped;  // mmap refuses a length of 0
  void* data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  require(data != MAP_FAILED, "{}: cannot map: {}", path.string(), system_error_text(errno));
  mapped->data_ = static_cast<const std::byte*>(data);
  mapped->size_ = size;
  return mapped;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void sync_directory(const fs::path& directory) {
  const Descriptor file(directory, O_RDONLY | O_DIRECTORY);
  // Some file systems cannot sync directories and say so with EINVAL; they need no sync either.
  require(::fsync(file.fd()) == 0 || errno == EINVAL, "{}: cannot sync: {}", directory.string(),
          system_error_text(errno));
}

void replace_file(const fs::path& path, FunctionRef<void(const fs::path&)> write) {
  fs::path temporary = path;
  temporary += fmt::format(".tmp-{}", ::getpid());
  std::error_code ignored;
  try {
    write(temporary);
    require(::rename(temporary.c_str(), path.c_str()) == 0, "{}: cannot rename to it: {}", path.string(),
            system_error_text(errno));
  } catch (...) {
    fs::remove(temporary, ignored);
    throw;
  }
  sync_directory(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  replace_file(path, [&](const fs::path& temporary) {
    OutputFile file(temporary);
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
    require(count >= 0, "{}: cannot read: {}", path.string(), system_error_text(errno));
    if (count == 0) break;  // the file became shorter
    got += static_cast<size_t>(count);
  }
  text.resize(got);
  return text;
}

}  // namespace tutti
