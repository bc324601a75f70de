#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

struct CacheInfo {
  std::string name;   ///< "L2", "L1 data"
  int64_t bytes = 0;  ///< of one
  int count = 0;
};

/// Properties of the machine as this process sees it. Unknown numbers are 0, unknown texts are empty.
struct MachineInfo {
  std::string host;
  std::string system;  ///< "Debian GNU/Linux 12 (bookworm)"
  std::string kernel;  ///< "Linux 6.1.0 x86_64"
  std::string cpu;     ///< model name
  int packages = 0;
  int cores = 0;
  int threads = 0;         ///< hardware threads
  int usable_threads = 0;  ///< that this process may run on
  double cpu_limit = 0;    ///< CPU time per second that a container may use, in CPUs; 0: no limit
  int numa_nodes = 0;
  std::vector<CacheInfo> caches;
  std::vector<std::string> features;  ///< instruction set extensions that matter for computing
  int64_t memory_bytes = 0;
  int64_t available_bytes = 0;
  int64_t memory_limit_bytes = 0;  ///< of a container or job; 0: no limit
};

MachineInfo machine_info();

/// Bytes of memory that the processes of this container or job may use together on this host.
int64_t usable_memory_bytes();

/// Peak resident memory of this process so far, in bytes.
int64_t peak_resident_bytes();

}  // namespace tutti
