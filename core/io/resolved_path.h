#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// A path with its symbolic links resolved, the status of what exists there, and the directories that are
/// missing.
struct ResolvedPath {
  std::filesystem::path path;                  ///< without symbolic links
  std::optional<struct stat> status;           ///< empty if nothing exists there
  std::vector<std::filesystem::path> missing;  ///< parent directories to create, outermost first

  [[nodiscard]] std::filesystem::path directory() const;  ///< its parent; "." if the path has none
};

/// Whether accounts other than the owner may add and remove names in a directory.
bool others_can_write(const struct stat& directory) noexcept;

/// Resolves a path as the kernel does, except for symbolic links that another account may have created. Links
/// owned by this account or root are followed. In inner components, other accounts' links are followed too,
/// unless their directory is writable by everybody and has another owner than the link, as the kernel's
/// protected_symlinks does for /tmp. The last component may be another account's link only in a directory of
/// this account or root that nobody else can write. Throws Error on a link that is not followed, a loop, a
/// dangling link, a link into /proc, and on system errors.
ResolvedPath resolve_path(const std::filesystem::path& path);

/// The file type in words: "a directory", "a FIFO", "a device", ...
std::string kind_of(const struct stat& status);

/// Whether two names refer to the same file or directory.
inline bool same_file(const struct stat& a, const struct stat& b) noexcept {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/// Opens a regular file that this program keeps open, such as a log or a lock, by resolve_path(): never a
/// device, FIFO, socket or another account's link. `flags` as for open(2); O_CREAT creates it with mode 0666
/// and the umask. The caller closes the descriptor. Throws Error with the path.
int open_regular(const std::filesystem::path& path, int flags);

}  // namespace tutti
