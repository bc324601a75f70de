#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace tutti {

/// The least memory limit in bytes of a process's control group and of the groups around it, as containers
/// and schedulers set them; 0 if there is none below `memory_bytes`. `self` is the text of /proc/self/cgroup,
/// `root` where the groups are mounted. Both versions of control groups.
int64_t memory_limit(std::string_view self, const std::filesystem::path& root, int64_t memory_bytes);

}  // namespace tutti
