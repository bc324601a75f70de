#pragma once

#include <tutti/comm/compute.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

/// The host of a rank and the logical CPUs that it may use.
struct RankPlace {
  std::string host;
  std::vector<int> cores;  ///< neighbours share caches and memory
};

/// The threads of `rank`: `threads` of them, or for 0 as many as the rank's even share of its cores. Ranks of
/// a host whose CPUs overlap (mpirun --bind-to none) divide them in rank order; the binding of a launcher is
/// kept.
ThreadPlacement place_threads(const std::vector<RankPlace>& all, int rank, int64_t threads);

/// The same for this rank, after all ranks have exchanged their hosts and CPUs. A rank with a GPU, given by
/// its PCI address, uses the CPUs near it.
ThreadPlacement place_threads(Peers& peers, int64_t threads, const std::string& gpu_pci = "");

/// The name of this machine.
std::string host_name();

}  // namespace tutti
