#include "launcher/info/memory_limit.h"

#include <tutti/core/error.h>

#include <charconv>
#include <fstream>
#include <sstream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

/// The number in a file of a control group; 0 for "max", or if there is no file.
int64_t limit_in(const fs::path& file) {
  std::ifstream stream(file);
  std::string text;
  std::getline(stream, text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() ? value : 0;
}

}  // namespace

int64_t memory_limit(std::string_view self, const fs::path& root, int64_t memory_bytes) {
  int64_t least = memory_bytes;
  // In version 1, a number larger than all memory means "no limit".
  const auto apply = [&](const fs::path& file) {
    if (const int64_t limit = limit_in(file); limit > 0 && limit < least) least = limit;
  };
  std::istringstream lines{std::string(self)};
  for (std::string line; std::getline(lines, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",memory,") == std::string::npos) continue;
    // In a container, its own group may be the root, although the path is that on the host.
    for (fs::path group = fs::path(line.substr(second + 1)).relative_path();; group = group.parent_path()) {
      if (unified) {
        apply(root / group / "memory.max");
        apply(root / "unified" / group / "memory.max");
      } else {
        apply(root / "memory" / group / "memory.limit_in_bytes");
      }
      if (group.empty()) break;
    }
  }
  return least < memory_bytes ? least : 0;
}

}  // namespace tutti
