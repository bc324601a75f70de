#pragma once

#include "launcher/launch/environment.h"
#include "launcher/launch/mpi_library.h"

#include <cstdint>

namespace tutti {

/// The number of ranks that were started with this one, from the variables of what started them: `tutti
/// launch`, mpirun or a scheduler's own starter; 0 if there are none. Under mpirun inside a job, the
/// variables of the scheduler's starter count mpirun's daemons and are not read.
int64_t launched_ranks(const Environment& here);

/// Throws Error with advice if this library cannot bootstrap with the ranks that were started: each would be
/// a world of size 1 that trains into the same files. Must be called before MPI is initialised.
void check_bootstrap(const Environment& here, const MpiLibrary& library);

/// Throws Error with advice if the world has another size than the number of ranks that were started.
void check_world_size(const Environment& here, const MpiLibrary& library, int64_t size);

}  // namespace tutti
