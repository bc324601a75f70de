#pragma once

#include <tutti/comm/collective.h>
#include "comm/mpi/session.h"

#include <memory>

namespace tutti {

/// All ranks of the session, which outlives the collective and everything created from it. Uses messages
/// between nodes, and shared memory within a node if node boundaries match the tree of Reduce: all ranks on
/// one node, or nodes of equally many consecutive ranks, a power of two. Otherwise it uses only messages. The
/// bits are the same in both cases.
std::unique_ptr<Collective> make_mpi_world(MpiSession& session);

}  // namespace tutti
