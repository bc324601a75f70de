#pragma once

#include <tutti/comm/collective.h>

#include <functional>

namespace tutti {

/// Runs `body` on `ranks` threads of this process, each with its own Collective of one world: the backend for
/// tests and sanitizers. Returns when all have ended. If one throws, operations of the others throw Error,
/// and the first exception is rethrown here.
void run_ranks(int ranks, const std::function<void(Collective& world)>& body);

}  // namespace tutti
