#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace tutti {

/// The lowest memory limit, in bytes, of a process's control group and its ancestors, as set by containers
/// and schedulers; 0 if there is none below `memory_bytes`. `self` is the text of /proc/self/cgroup, `root`
/// the mount point of the groups. Supports both versions of control groups.
int64_t memory_limit(std::string_view self, const std::filesystem::path& root, int64_t memory_bytes);

}  // namespace tutti
