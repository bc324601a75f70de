#include "launcher/preflight/cpu_quota.h"

#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

/// The quota of one group; 0 for none.
double of_group(const fs::path& group) {
  double quota = 0;
  double period = 0;
  std::ifstream both(group / "cpu.max");  // "max 100000" or "150000 100000"
  if (!(both >> quota >> period)) {
    std::ifstream quota_file(group / "cpu.cfs_quota_us");  // -1: none
    std::ifstream period_file(group / "cpu.cfs_period_us");
    if (!(quota_file >> quota) || !(period_file >> period)) return 0;
  }
  return quota > 0 && period > 0 ? quota / period : 0;
}

/// The lowest quota of a group and its ancestors. In a container, its own group is the root, whatever
/// path it has outside.
double of_path(const fs::path& root, const fs::path& path) {
  double least = 0;
  for (fs::path group = path.relative_path();; group = group.parent_path()) {
    const double quota = of_group(group.empty() ? root : root / group);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
    if (group.empty()) return least;
  }
}

}  // namespace

double cpu_quota(std::string_view self, const fs::path& root) {
  double least = 0;
  const auto take = [&](double quota) {
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  };
  std::istringstream lines{std::string(self)};
  for (std::string line; std::getline(lines, line);) {
    // "0::/path" of version 2, "4:cpu,cpuacct:/path" of version 1
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path path = line.substr(second + 1);
    if (controllers.empty()) {
      take(of_path(root, path));
      take(of_path(root / "unified", path));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      take(of_path(root / controllers, path));
      take(of_path(root / "cpu", path));
    }
  }
  return least;
}

double cpu_quota_here() {
  std::ifstream file("/proc/self/cgroup");
  const std::string self{std::istreambuf_iterator<char>(file), {}};
  return cpu_quota(self, "/sys/fs/cgroup");
}

}  // namespace tutti
