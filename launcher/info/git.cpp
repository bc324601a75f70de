#include "launcher/info/git.h"

#include <algorithm>
#include <cctype>
#include <fstream>
#include <string_view>

namespace tutti {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())) != 0) line.pop_back();
  return line;
}

bool is_commit(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c) != 0; });
}

/// The value of a line that begins with `key`; empty for other lines.
std::string after(std::string_view key, const std::string& line) {
  return line.starts_with(key) ? line.substr(key.size()) : "";
}

/// The .git folder of the checkout; worktrees and submodules have a file with its path.
fs::path git_folder(const fs::path& directory) {
  std::error_code error;
  for (fs::path at = fs::absolute(directory, error); !error; at = at.parent_path()) {
    const fs::path candidate = at / ".git";
    if (fs::is_directory(candidate, error)) return candidate;
    if (fs::is_regular_file(candidate, error)) {
      const std::string named = after("gitdir: ", first_line(candidate));
      return named.empty() ? fs::path() : at / named;
    }
    if (at == at.parent_path()) break;
    error.clear();
  }
  return {};
}

std::string packed_reference(const fs::path& packed, const std::string& reference) {
  std::ifstream file(packed);
  for (std::string line; std::getline(file, line);) {
    const size_t space = line.find(' ');
    if (space != std::string::npos && line.substr(space + 1) == reference) return line.substr(0, space);
  }
  return "";
}

}  // namespace

std::string git_revision(const fs::path& directory) {
  const fs::path folder = git_folder(directory);
  if (folder.empty()) return "";
  std::string found = first_line(folder / "HEAD");
  if (const std::string reference = after("ref: ", found); !reference.empty()) {
    // The branches of a worktree are in the folder that all worktrees share.
    const std::string common = first_line(folder / "commondir");
    const fs::path shared = common.empty() ? folder : folder / common;
    found = first_line(shared / reference);
    if (found.empty()) found = packed_reference(shared / "packed-refs", reference);
  }
  return is_commit(found) ? found : "";
}

}  // namespace tutti
