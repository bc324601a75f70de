#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tutti {

/// Names and versions of the libraries that this program uses, as reported by the libraries at run time
/// where possible.
std::vector<std::pair<std::string, std::string>> library_versions();

/// "Open MPI v4.1.4, ...", as reported by the MPI library. May be called before MPI is initialised.
std::string mpi_library_version();

/// The result of initialising MPI in a separate process: an MPI that cannot start then becomes a line of the
/// report instead of ending the program.
struct MpiProbe {
  int rank = 0;
  int size = 1;
  std::string standard;      ///< "3.1"
  std::string thread_level;  ///< "multiple"
  std::string error;         ///< why MPI could not be initialised; empty: it could
};

/// Forks: the process must have neither initialised MPI nor started threads.
MpiProbe probe_mpi();

}  // namespace tutti
