#include "launcher/launch/bootstrap_check.h"

#include "launcher/launch/adapter.h"

#include <tutti/core/error.h>

namespace tutti {
namespace {

using Family = MpiLibrary::Family;

/// The scheduler's program that started this rank; nullptr if it was mpirun or is not known.
const RankStarter* scheduler_starter(const Environment& here) {
  if (here.find("OMPI_COMM_WORLD_SIZE") || here.find("HYDI_CONTROL_FD")) return nullptr;
  for (const Adapter* adapter : adapters()) {
    const RankStarter& starter = adapter->starter;
    if (starter.advice != nullptr && here.find(starter.size)) return &starter;
  }
  return nullptr;
}

/// What to do instead, for whoever started the ranks.
std::string advice(const Environment& here, const MpiLibrary& library) {
  if (const RankStarter* starter = scheduler_starter(here)) {
    return fmt::format("Use {}, or `tutti launch`, which sees to it", starter->advice(library));
  }
  return fmt::format("Use the mpirun of {}, or `tutti launch`, which checks it", library.name);
}

}  // namespace

int64_t launched_ranks(const Environment& here) {
  for (const char* name : {"TUTTI_LAUNCH_RANKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    if (const int64_t ranks = here.number(name, 0); ranks > 0) return ranks;
  }
  const RankStarter* starter = scheduler_starter(here);
  return starter != nullptr ? here.number(starter->size, 0) : 0;
}

void check_bootstrap(const Environment& here, const MpiLibrary& library) {
  const int64_t started = launched_ranks(here);
  if (started <= 1) return;
  const bool pmix = here.find("PMIX_RANK") || here.find("OMPI_COMM_WORLD_RANK");
  const bool pmi = here.find("PMI_RANK") || here.find("PMI_FD");
  // Only what is certain: some builds of MPICH know PMIx as well, and Cray's has ways of its own.
  const bool lost = library.family == Family::kOpenMpi ? !pmix
                    : library.family == Family::kMpich ? !pmix && !pmi
                                                       : false;
  require(!lost,
          "{} ranks were started in a way by which {} cannot find them: each would be a world of one. {}",
          started, library.name, advice(here, library));
}

void check_world_size(const Environment& here, const MpiLibrary& library, int64_t size) {
  const int64_t started = launched_ranks(here);
  require(started == 0 || started == size,
          "{} ranks were started, and this one is in a world of {}: what started them does not fit {}. {}",
          started, size, library.name, advice(here, library));
}

}  // namespace tutti
