#pragma once

#include <string>
#include <utility>
#include <vector>

namespace tutti {

/// Names and versions of the libraries that this program runs with, as they report themselves at run time
/// where they can.
std::vector<std::pair<std::string, std::string>> library_versions();

/// "Open MPI v4.1.4, ...": what the MPI library says of itself. May be called before MPI is initialised.
std::string mpi_library_version();

/// What came of starting MPI in a process of its own, so that an MPI that cannot start is a line of a report
/// and not the end of it.
struct MpiProbe {
  int rank = 0;
  int size = 1;
  std::string standard;      ///< "3.1"
  std::string thread_level;  ///< "multiple"
  std::string error;         ///< why there is nothing to tell
};

/// Forks, so it is for a process that has neither started MPI nor threads.
MpiProbe probe_mpi();

}  // namespace tutti
