#include "launcher/launch/adapters/slurm_mpi.h"

#include <tutti/core/error.h>

#include <sstream>
#include <string>

namespace tutti {
namespace {

using Family = MpiLibrary::Family;

bool speaks_pmix_only(const MpiLibrary& library) {
  return library.family == Family::kOpenMpi;
}

}  // namespace

std::string_view default_srun_mpi(const MpiLibrary& library) {
  if (library.family == Family::kOpenMpi) return "pmix";
  return library.family == Family::kCray ? "cray_shasta" : "pmi2";
}

void check_srun_mpi(const MpiLibrary& library, std::string_view type) {
  const bool pmix = type == "pmix" || type.starts_with("pmix_v");
  const bool old = type == "none" || type == "openmpi";
  const std::string_view right = default_srun_mpi(library);
  require(!speaks_pmix_only(library) || pmix,
          "--mpi={}: this tutti is built with {}, which finds its ranks by PMIx only; each rank would be a "
          "world of one. Use --mpi=pmix, or --starter mpirun where srun has no pmix (`srun --mpi=list`)",
          type, library.name);
  require(!old, "--mpi={}: the ranks of {} would not find each other. Use --mpi={}", type, library.name,
          right);
}

void check_srun_offers(const MpiLibrary& library, std::string_view type, std::string_view offered) {
  std::istringstream words{std::string(offered)};
  for (std::string word; words >> word;) {
    if (word == type || (type == "pmix" && word.starts_with("pmix"))) return;
  }
  fail(
      "srun has no --mpi={} here, which {} needs (`srun --mpi=list` shows what it has). Use --starter "
      "mpirun, or ask for Slurm's {} plugin to be installed",
      type, library.name, type);
}

}  // namespace tutti
