#include "launcher/info/machine.h"

#include "comm/placement/placement.h"
#include "launcher/info/memory_limit.h"

#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>
#include "core/system_check.h"

#include <hwloc.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>

namespace tutti {
namespace {

struct TopologyFree {
  void operator()(hwloc_topology* topology) const noexcept { hwloc_topology_destroy(topology); }
};
using Topology = std::unique_ptr<hwloc_topology, TopologyFree>;

Topology load_topology() {
  hwloc_topology_t raw = nullptr;
  require(hwloc_topology_init(&raw) == 0, "hwloc: cannot create a topology");
  Topology topology(raw);
  require(hwloc_topology_load(raw) == 0, "hwloc: cannot read this machine's topology");
  return topology;
}

/// The value after `key` in a file of "key separator value" lines; empty if there is none.
std::string line_value(const std::string& path, std::string_view key, char separator) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t at = line.find(separator);
    if (at == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t\"", at + 1);
    if (begin == std::string::npos) return "";
    return line.substr(begin, line.find_last_not_of(" \t\"") - begin + 1);
  }
  return "";
}

int64_t kibibytes(const std::string& text) {
  int64_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value);
  return value * 1024;
}

/// This process's folder of the unified control groups, or of version 1's `controller`.
std::string control_group(std::string_view controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (names.empty()) return "/sys/fs/cgroup" + line.substr(second + 1);
    if (names.find(controller) != std::string::npos) {
      return fmt::format("/sys/fs/cgroup/{}{}", controller, line.substr(second + 1));
    }
  }
  return "";
}

/// The first line of a file in a control group's folder, or at the root, as in a container.
std::string group_value(std::string_view controller, const std::string& name) {
  for (const std::string& folder : {control_group(controller), std::string("/sys/fs/cgroup"),
                                    fmt::format("/sys/fs/cgroup/{}", controller)}) {
    std::ifstream file(folder + "/" + name);
    std::string line;
    if (std::getline(file, line)) return line;
  }
  return "";
}

double cpu_limit() {
  double quota = 0;
  double period = 0;
  if (std::istringstream unified(group_value("cpu", "cpu.max")); unified >> quota >> period && period > 0) {
    return quota / period;
  }
  std::istringstream old_quota(group_value("cpu", "cpu.cfs_quota_us"));
  std::istringstream old_period(group_value("cpu", "cpu.cfs_period_us"));
  if (old_quota >> quota && old_period >> period && quota > 0 && period > 0) return quota / period;
  return 0;
}

int64_t memory_limit_here(int64_t memory_bytes) {
  std::ifstream file("/proc/self/cgroup");
  const std::string self{std::istreambuf_iterator<char>(file), {}};
  return memory_limit(self, "/sys/fs/cgroup", memory_bytes);
}

std::vector<CacheInfo> caches(hwloc_topology_t topology) {
  std::vector<CacheInfo> all;
  for (const auto& [type, name] : {std::pair{HWLOC_OBJ_L1CACHE, "L1 data"},
                                   {HWLOC_OBJ_L2CACHE, "L2"},
                                   {HWLOC_OBJ_L3CACHE, "L3"},
                                   {HWLOC_OBJ_L4CACHE, "L4"}}) {
    const int count = hwloc_get_nbobjs_by_type(topology, type);
    if (count <= 0) continue;
    const hwloc_obj_t first = hwloc_get_obj_by_type(topology, type, 0);
    all.push_back({name, static_cast<int64_t>(first->attr->cache.size), count});
  }
  return all;
}

std::vector<std::string> features() {
  static constexpr std::string_view kInteresting[] = {
      "sse4_2",   "avx",      "f16c",        "fma",         "avx2",        "avx512f",  "avx512bw",
      "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
      "amx_int8", "avx_vnni", "asimd",       "sve",         "sve2",        "bf16"};
  std::istringstream text(line_value("/proc/cpuinfo", "flags", ':') + " " +
                          line_value("/proc/cpuinfo", "Features", ':'));
  std::vector<std::string> found;
  for (std::string flag; text >> flag;) {
    if (std::find(std::begin(kInteresting), std::end(kInteresting), flag) != std::end(kInteresting)) {
      found.push_back(flag);
    }
  }
  return found;
}

}  // namespace

MachineInfo machine_info() {
  const Topology topology = load_topology();
  const auto count = [&](hwloc_obj_type_t type) {
    return std::max(0, hwloc_get_nbobjs_by_type(topology.get(), type));
  };
  utsname name{};
  require_system(uname(&name) == 0, "uname");
  MachineInfo info{
      .host = host_name(),
      .system = line_value("/etc/os-release", "PRETTY_NAME", '='),
      .kernel = fmt::format("{} {} {}", name.sysname, name.release, name.machine),
      .cpu = line_value("/proc/cpuinfo", "model name", ':'),
      .packages = count(HWLOC_OBJ_PACKAGE),
      .cores = count(HWLOC_OBJ_CORE),
      .threads = count(HWLOC_OBJ_PU),
      .usable_threads = usable_cores(),
      .cpu_limit = cpu_limit(),
      .numa_nodes = count(HWLOC_OBJ_NUMANODE),
      .caches = caches(topology.get()),
      .features = features(),
      .memory_bytes = kibibytes(line_value("/proc/meminfo", "MemTotal", ':')),
      .available_bytes = kibibytes(line_value("/proc/meminfo", "MemAvailable", ':')),
  };
  info.memory_limit_bytes = memory_limit_here(info.memory_bytes);
  return info;
}

int64_t usable_memory_bytes() {
  const int64_t all = kibibytes(line_value("/proc/meminfo", "MemTotal", ':'));
  const int64_t limit = memory_limit_here(all);
  return limit > 0 ? limit : all;
}

int64_t peak_resident_bytes() {
  rusage usage{};
  require_system(getrusage(RUSAGE_SELF, &usage) == 0, "getrusage");
  return static_cast<int64_t>(usage.ru_maxrss) * 1024;
}

}  // namespace tutti
