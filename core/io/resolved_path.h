#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// Where a path leads: what is there, or what has to be made first.
struct ResolvedPath {
  std::filesystem::path path;                  ///< without symbolic links
  std::optional<struct stat> status;           ///< empty if nothing is there
  std::vector<std::filesystem::path> missing;  ///< directories above it to make, the outermost first

  [[nodiscard]] std::filesystem::path directory() const;  ///< that holds it; "." if the path names none
};

/// Whether an account other than the owner may add and remove names in a directory.
bool others_can_write(const struct stat& directory) noexcept;

/// Follows a path as the kernel does, but no symbolic link that another account may have placed. Links of
/// this account and of root are followed. So are others' on the way, unless everybody can write to the
/// directory that they are in and they are not of its owner, as the kernel's protected_symlinks has it for
/// /tmp. The last name may be a link of others only in a directory of this account or root that nobody else
/// can write. Throws Error on such a link, on a loop, on a link that leads nowhere, into /proc, and where the
/// system refuses.
ResolvedPath resolve_path(const std::filesystem::path& path);

/// "a directory", "a FIFO", "a device", ...: what is at a place, in words.
std::string kind_of(const struct stat& status);

/// Whether two are the same file or directory, whatever their names.
inline bool same_file(const struct stat& a, const struct stat& b) noexcept {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Opens a regular file that this program keeps open, such as a log or a lock, by resolve_path(): never a
/// device, FIFO or socket, and no link of others. `flags` as for open(2); O_CREAT makes it with mode 0666 and
/// the umask. The caller closes the descriptor. Throws Error with the path.
int open_regular(const std::filesystem::path& path, int flags);

}  // namespace tutti
