#pragma once

#include <filesystem>
#include <string_view>

namespace tutti {

/// The number of CPUs that the control groups of a process allow it to use: the lowest quota of its group and
/// its ancestors; 0 without a limit. `self` is the text of /proc/self/cgroup, `root` where the groups are
/// mounted. Source: Linux, "Control Group v2", cpu.max; "CFS Bandwidth Control", cpu.cfs_quota_us and
/// cpu.cfs_period_us.
double cpu_quota(std::string_view self, const std::filesystem::path& root);
/// Of this process.
double cpu_quota_here();

}  // namespace tutti
