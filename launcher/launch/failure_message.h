#pragma once

#include <string>
#include <string_view>

namespace tutti {

/// What a line that a starter of ranks (mpirun, srun) or its daemons print says of a failure; empty for other
/// lines.
struct FailureMessage {
  std::string host;            ///< that a rank failed on, or that was lost
  int exit_code = 0;           ///< of that rank, 128 + n for signal n; 0: not given
  bool host_lost = false;      ///< `host` itself, or its daemon
  bool killed = false;         ///< a rank ended by SIGKILL
  bool out_of_memory = false;  ///< a rank was killed because its job used more memory than it may
  bool consequence = false;    ///< of another rank's failure, as a broken connection is
  bool aborted = false;        ///< the other ranks are ended: later lines are consequences
};

/// What Open MPI's mpirun says.
FailureMessage parse_mpirun_message(std::string_view line);

/// The host name behind `sign` in the line, without the punctuation that follows; empty if there is none.
std::string host_after(std::string_view line, std::string_view sign);

}  // namespace tutti
