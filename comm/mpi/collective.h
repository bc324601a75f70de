#pragma once

#include <tutti/comm/collective.h>
#include "comm/mpi/session.h"

#include <memory>

namespace tutti {

/// All ranks of the session, which outlives the collective and everything made from it. Between nodes by
/// messages; inside a node through shared memory where node boundaries fit the tree of Reduce: all ranks on
/// one node, or nodes of equally many consecutive ranks, a power of two. Otherwise by messages alone. The
/// bits are the same either way.
std::unique_ptr<Collective> make_mpi_world(MpiSession& session);

}  // namespace tutti
