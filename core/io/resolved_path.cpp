#include "core/io/resolved_path.h"
#include <tutti/core/error.h>
#include "core/system_check.h"

#include <fcntl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <utility>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr int kMostLinks = 40;  // as Linux
constexpr long kProcFileSystem = 0x9fa0;

class DirectoryDescriptor {
 public:
  DirectoryDescriptor(int parent, const char* name, const fs::path& whole)
      : fd_(::openat(parent, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) {
    require_system(fd_ >= 0, "{}: cannot open the directory {}", whole.string(), name);
  }
  ~DirectoryDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  DirectoryDescriptor(DirectoryDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  DirectoryDescriptor& operator=(DirectoryDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  [[nodiscard]] int number() const noexcept { return fd_; }

 private:
  int fd_;
};

/// Components of a path in reverse order. A trailing slash adds ".".
void push_names(const fs::path& path, std::vector<std::string>& names) {
  std::vector<std::string> forward;
  for (const fs::path& part : path.relative_path()) forward.push_back(part.empty() ? "." : part.string());
  names.insert(names.end(), forward.rbegin(), forward.rend());
}

bool trusted(const struct stat& link, const struct stat& directory, bool last) {
  if (link.st_uid == ::geteuid() || link.st_uid == 0) return true;
  if (!last) return link.st_uid == directory.st_uid || (directory.st_mode & S_IWOTH) == 0;
  return (directory.st_uid == ::geteuid() || directory.st_uid == 0) && !others_can_write(directory);
}

std::string read_link(int directory, const std::string& name, const fs::path& whole) {
  std::array<char, PATH_MAX> target{};
  const ssize_t length = ::readlinkat(directory, name.c_str(), target.data(), target.size());
  require_system(length >= 0, "{}: cannot read the symbolic link {}", whole.string(), name);
  return {target.data(), static_cast<size_t>(length)};
}

/// Resolves a path component by component.
class Walk {
 public:
  explicit Walk(const fs::path& whole)
      : whole_(whole), at_(AT_FDCWD, whole.is_absolute() ? "/" : ".", whole) {
    require(!whole.empty(), "a path is empty; expected the name of a file or directory");
    if (whole.is_absolute()) resolved_.path = "/";
    push_names(whole, names_);
  }

  ResolvedPath go() {
    while (!names_.empty()) {
      const std::string name = std::move(names_.back());
      names_.pop_back();
      if (name == "." && !resolved_.path.empty()) continue;
      struct stat status {};
      if (::fstatat(at_.number(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
        require_system(errno == ENOENT, "{}", whole_.string());
        nothing_at(name);
        return std::move(resolved_);
      }
      if (S_ISLNK(status.st_mode)) {
        follow(name, status);
      } else if (only_dots_left() && !(S_ISDIR(status.st_mode))) {
        require(names_.empty(), "{}: {} is {}, not a directory", whole_.string(),
                (resolved_.path / name).string(), kind_of(status));
        resolved_.path /= name;
        resolved_.status = status;
        return std::move(resolved_);
      } else {
        require(S_ISDIR(status.st_mode), "{}: {} is {}, not a directory", whole_.string(),
                (resolved_.path / name).string(), kind_of(status));
        at_ = DirectoryDescriptor(at_.number(), name.c_str(), whole_);
        resolved_.path /= name;
        refuse_proc();
      }
    }
    struct stat status {};
    require_system(::fstat(at_.number(), &status) == 0, "{}", whole_.string());
    if (resolved_.path.empty()) resolved_.path = ".";
    resolved_.status = status;
    return std::move(resolved_);
  }

 private:
  [[nodiscard]] bool only_dots_left() const {
    for (const std::string& name : names_) {
      if (name != ".") return false;
    }
    return true;
  }

  [[nodiscard]] bool inside_link() const { return names_.size() >= behind_link_; }

  void nothing_at(const std::string& name) {
    require(!inside_link(), "{}: a symbolic link leads to {}, which does not exist", whole_.string(),
            (resolved_.path / name).string());
    resolved_.path /= name;
    while (!names_.empty()) {
      const std::string next = std::move(names_.back());
      names_.pop_back();
      require(next != "..", "{}: {} does not exist", whole_.string(), resolved_.path.string());
      if (next == ".") continue;
      resolved_.missing.push_back(resolved_.path);
      resolved_.path /= next;
    }
  }

  void follow(const std::string& name, const struct stat& link) {
    require(++links_ <= kMostLinks, "{}: more than {} symbolic links; they form a loop", whole_.string(),
            kMostLinks);
    struct stat directory {};
    require_system(::fstat(at_.number(), &directory) == 0, "{}", whole_.string());
    const std::string target = read_link(at_.number(), name, whole_);
    require(trusted(link, directory, only_dots_left()),
            "{}: the symbolic link {} to {} belongs to another account (uid {}), in a directory that others "
            "can write; it is not followed. Give the path that it leads to",
            whole_.string(), (resolved_.path / name).string(), target, link.st_uid);
    if (!inside_link()) behind_link_ = names_.size();
    const fs::path next(target);
    if (next.is_absolute()) {
      at_ = DirectoryDescriptor(AT_FDCWD, "/", whole_);
      resolved_.path = "/";
    }
    push_names(next, names_);
  }

  /// Links in /proc lead to what a process has open, not to what their text names.
  void refuse_proc() const {
    struct statfs system {};
    if (::fstatfs(at_.number(), &system) != 0) return;
    require(static_cast<long>(system.f_type) != kProcFileSystem,
            "{}: leads into /proc; expected a regular file. Use - for standard output, if the command "
            "supports it",
            whole_.string());
  }

  fs::path whole_;
  DirectoryDescriptor at_;
  ResolvedPath resolved_;
  std::vector<std::string> names_;  ///< still to resolve, the next one last
  int links_ = 0;
  size_t behind_link_ = SIZE_MAX;  ///< number of names after those of the link's target
};

}  // namespace

fs::path ResolvedPath::directory() const {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool others_can_write(const struct stat& directory) noexcept {
  return (directory.st_mode & (S_IWGRP | S_IWOTH)) != 0;
}

ResolvedPath resolve_path(const fs::path& path) {
  return Walk(path).go();
}

std::string kind_of(const struct stat& status) {
  switch (status.st_mode & S_IFMT) {
    case S_IFREG:
      return "a regular file";
    case S_IFDIR:
      return "a directory";
    case S_IFCHR:
    case S_IFBLK:
      return "a device";
    case S_IFIFO:
      return "a FIFO";
    case S_IFSOCK:
      return "a socket";
    case S_IFLNK:
      return "a symbolic link";
    default:
      return "not a regular file";
  }
}

int open_regular(const fs::path& path, int flags) {
  const ResolvedPath resolved = resolve_path(path);
  if (resolved.status) {
    require(S_ISREG(resolved.status->st_mode), "{}: is {}; expected a regular file", path.string(),
            kind_of(*resolved.status));
  }
  // O_NONBLOCK: if a FIFO has replaced the file since, open would block.
  const int file =
      ::open(resolved.path.c_str(), flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
  require_system(file >= 0, "{}: cannot open", path.string());
  struct stat status {};
  const SystemCheck known = ::fstat(file, &status) == 0;
  const bool regular = known.ok() && S_ISREG(status.st_mode);
  if (!regular) ::close(file);
  require_system(known, "{}: cannot stat", path.string());
  require(regular, "{}: is {}; expected a regular file", path.string(), kind_of(status));
  return file;
}

}  // namespace tutti
