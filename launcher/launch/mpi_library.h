#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace tutti {

/// The MPI that this program was built with, as far as launching depends on it.
struct MpiLibrary {
  enum class Family : uint8_t { kOpenMpi, kMpich, kIntel, kCray, kMvapich, kOther };
  Family family = Family::kOther;
  int major_version = 0;
  std::string name;  ///< "Open MPI 4.1.4", for messages
};

/// Parses the text of MPI_Get_library_version.
MpiLibrary parse_mpi_library(std::string_view version);

/// What `mpirun --version` prints, as the library that it belongs to.
MpiLibrary parse_mpirun_version(std::string_view text);

/// Whether its ranks run under Hydra: those of MPICH, Intel's MPI and MVAPICH.
bool runs_under_hydra(const MpiLibrary& library);

/// The mpirun that belongs to the library where several are installed side by side, as Debian names them;
/// `has_program` looks on the PATH.
std::string mpirun_name(const MpiLibrary& library,
                        const std::function<bool(std::string_view program)>& has_program);

/// Throws Error with advice if the mpirun that is found first belongs to another MPI.
void check_mpirun(const MpiLibrary& built_with, std::string_view mpirun_version);

}  // namespace tutti
