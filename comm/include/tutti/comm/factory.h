#pragma once

#include <tutti/comm/collective.h>
#include <tutti/core/config/fields.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// How ranks find each other.
struct WorldConfig {
  /// auto: mpi when a launcher (mpirun, srun, ...) started this process, else self.
  std::string backend = "auto";
  int64_t threads = 2;            ///< ranks of the threads backend
  int64_t ranks_per_node = 0;     ///< mpi: pretend that nodes hold no more; 0: as it is
  std::string program = "tutti";  ///< what messages on stderr begin with

  void describe(Fields& f);
};

/// Runs `body` on every rank of the world that `config` chooses: once for self, on several threads for
/// threads, as this process's rank for mpi.
///
/// When `body` throws, self and threads throw the (first) exception here. With mpi the rank logs it and all
/// ranks of the world end with exit code 1; when several fail together, the lowest one's message is the one
/// that appears. MPI is initialised before and finalised after `body`, so a process can do this once. What
/// `body` makes from its Collective must not outlive it. Handlers of signals run on a thread of their own
/// meanwhile (core/signal_thread.h).
void run_world(const WorldConfig& config, const std::function<void(Collective& world)>& body);

/// main() of a program of one's own: run_world({}, body). Says what was thrown on stderr, "NAME: MESSAGE" or
/// "NAME: rank R: MESSAGE", and returns the exit code.
int run_program(std::string_view name, const std::function<void(Collective& world)>& body) noexcept;

/// What `auto` stands for in this process: "mpi" or "self".
std::string_view detect_backend();

}  // namespace tutti
