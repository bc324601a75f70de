#pragma once

#include "launcher/launch/mpi_library.h"
#include "launcher/launch/surroundings.h"

#include <cstdint>

namespace tutti {

/// How many ranks were started beside this one, as whoever started them says in the environment: `tutti
/// launch`, mpirun or a scheduler's own starter; 0 where nobody does. Under mpirun inside a job, the
/// variables of the scheduler's starter count mpirun's daemons and are not read.
int64_t started_ranks(const Surroundings& here);

/// Throws Error with advice if this process stands beside others that an MPI of this library cannot find:
/// each would train a world of its own into the same files. To be called before MPI is initialised.
void check_can_meet(const Surroundings& here, const MpiLibrary& library);

/// Throws Error with advice if the world has another size than the number of ranks that were started.
void check_world_size(const Surroundings& here, const MpiLibrary& library, int64_t size);

}  // namespace tutti
