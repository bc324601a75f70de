#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/config/fields.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// How ranks communicate.
struct WorldConfig {
  /// auto: mpi if a launcher (mpirun, srun, ...) started this process, else self.
  std::string backend = "auto";
  int64_t threads = 2;            ///< ranks of the threads backend
  int64_t ranks_per_node = 0;     ///< mpi: simulate nodes with at most this many ranks; 0: the actual nodes
  std::string program = "tutti";  ///< prefix of messages on stderr

  void describe(Fields& f);
};

/// Runs `body` on every rank of the world that `config` selects: once for self, on several threads for
/// threads, as the rank of this process for mpi.
///
/// When `body` throws, self and threads throw the (first) exception here. With mpi the rank logs it and all
/// ranks of the world end with exit code 1; if several fail at the same time, the message of the lowest rank
/// is logged. MPI is initialised before and finalised after `body`, so a process can call this once. Objects
/// that `body` creates from its Collective must not outlive it. Signal handlers run on a separate thread
/// (core/signal_thread.h).
void run_world(const WorldConfig& config, const std::function<void(Collective& world)>& body);

/// main() of a user program: run_world({}, body). Prints exceptions to stderr as "NAME: MESSAGE" or "NAME:
/// rank R: MESSAGE" and returns the exit code.
int run_program(std::string_view name, const std::function<void(Collective& world)>& body) noexcept;

/// The backend of `auto` in this process: "mpi" or "self".
std::string_view detect_backend();

}  // namespace tutti
