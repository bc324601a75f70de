#pragma once

#include <tutti/comm/compute.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

/// Where a rank runs: its host and the logical CPUs that it may use.
struct RankPlace {
  std::string host;
  std::vector<int> cores;  ///< neighbours share caches and memory
};

/// The threads of `rank`: `threads` of them, or as many as the rank's even share of its cores for 0. Ranks of
/// a host whose CPUs overlap (mpirun --bind-to none) divide them in the order of their ranks; a launcher's
/// own binding is kept.
ThreadPlacement place_threads(const std::vector<RankPlace>& all, int rank, int64_t threads);

/// The same for this rank, after an exchange of places between all ranks. A rank with a GPU, named by its PCI
/// address, uses the CPUs next to it.
ThreadPlacement place_threads(Peers& peers, int64_t threads, const std::string& gpu_pci = "");

/// This machine's name.
std::string host_name();

}  // namespace tutti
