#pragma once

#include <tutti/comm/collective.h>
#include "comm/mpi/session.h"

#include <functional>

namespace tutti {

/// Runs `body` as the rank of this process in the MPI world; see run_world.
void run_mpi(const MpiOptions& options, const std::function<void(Collective& world)>& body);

}  // namespace tutti
