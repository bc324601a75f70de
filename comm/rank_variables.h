#pragma once
#include <array>

namespace tutti {

/// Environment variables that MPI launchers set to the rank of each process: Open MPI, PMIx (srun, prte), PMI
/// (MPICH's hydra, srun, Cray), PALS, MVAPICH.
inline constexpr std::array kMpiRankVariables{"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PALS_RANKID",
                                              "MV2_COMM_WORLD_RANK"};

}  // namespace tutti
