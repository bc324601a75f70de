#include "core/io/path_operations.h"
#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/system_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace tutti {
namespace fs = std::filesystem;

void make_directories(const std::vector<fs::path>& missing, std::vector<TemporaryPath>& made,
                      const fs::path& whole) {
  for (const fs::path& directory : missing) {
    TemporaryPath temporary(directory, TemporaryPath::Kind::kDirectory);
    const SystemCheck done = ::mkdir(directory.c_str(), 0777) == 0;
    if (done.ok()) {
      made.push_back(std::move(temporary));
      continue;
    }
    temporary.keep();  // another process created it, or nothing exists
    require_system(done.error_number() == EEXIST ? SystemCheck(true) : done,
                   "{}: the directory {} cannot be created", whole.string(), directory.string());
  }
}

void refuse_tilde(const fs::path& path) {
  if (path.empty()) return;
  require(*path.begin() != "~", "{}: ~ is not expanded here; write {}", path.string(),
          "$HOME" + path.string().substr(1));
}

void probe_directory(const fs::path& directory, const fs::path& whole) {
  const TemporaryPath probe(directory / temporary_name());
  const int file = ::open(probe.path().c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
  require_system(file >= 0, "{}: no file can be created in {}", whole.string(), directory.string());
  ::close(file);
}

bool rename_no_replace(const fs::path& from, const fs::path& to) {
  const SystemCheck renamed =
      ::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0;
  if (renamed.ok()) return true;
  if (renamed.error_number() == EEXIST) return false;
  // File systems without it, such as NFS: a hard link never replaces a file either.
  require_system(
      renamed.error_number() == EINVAL || renamed.error_number() == ENOSYS ? SystemCheck(true) : renamed,
      "{}: cannot rename to it", to.string());
  const SystemCheck linked = ::link(from.c_str(), to.c_str()) == 0;
  if (linked.ok()) {
    (void)::unlink(from.c_str());
    return true;
  }
  if (linked.error_number() == EEXIST) return false;
  // File systems without hard links, such as FAT.
  struct stat status {};
  if (::lstat(to.c_str(), &status) == 0) return false;
  require_system(::rename(from.c_str(), to.c_str()) == 0, "{}: cannot rename to it", to.string());
  return true;
}

}  // namespace tutti
