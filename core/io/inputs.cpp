#include "core/io/inputs.h"
#include "core/io/resolved_path.h"

#include <fcntl.h>
#include <unistd.h>

#include <set>
#include <utility>
#include <vector>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostDirectories = 100'000;

/// Whether `directory` is an ancestor of `path`.
bool is_inside(const fs::path& path, const struct stat& directory) {
  fs::path above = path.has_parent_path() ? path.parent_path() : fs::path(".");
  struct stat last {};
  for (int depth = 0; depth < 4096; ++depth) {
    struct stat status {};
    if (::stat(above.c_str(), &status) != 0) return false;
    if (same_file(status, directory)) return true;
    if (depth > 0 && same_file(status, last)) return false;  // the root
    last = status;
    above /= "..";
  }
  return false;
}

/// Whether the directory contains the file under another name or through a symbolic link.
bool is_reachable(const struct stat& file, const fs::path& path, const fs::path& top) {
  std::set<std::pair<dev_t, ino_t>> seen;
  std::vector<fs::path> open{top};
  while (!open.empty() && seen.size() < kMostDirectories) {
    const fs::path directory = std::move(open.back());
    open.pop_back();
    std::error_code error;
    for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
         entry.increment(error)) {
      struct stat status {};
      if (::stat(entry->path().c_str(), &status) != 0) continue;
      if (same_file(status, file)) return true;
      if (!S_ISDIR(status.st_mode) || !seen.emplace(status.st_dev, status.st_ino).second) continue;
      std::error_code none;
      if (entry->is_symlink(none) && is_inside(path, status)) return true;
      open.push_back(entry->path());
    }
  }
  return false;
}

}  // namespace

std::string input_that_is(const struct stat& file, const fs::path& path, std::span<const fs::path> inputs) {
  for (const fs::path& input : inputs) {
    struct stat status {};
    if (::stat(input.c_str(), &status) != 0) continue;
    if (same_file(status, file)) return input.string();
    if (!S_ISDIR(status.st_mode)) continue;
    if (is_inside(path, status) || is_reachable(file, path, input)) return input.string();
  }
  return "";
}

}  // namespace tutti
