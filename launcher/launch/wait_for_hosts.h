#pragma once

#include "launcher/launch/adapter.h"

#include <iosfwd>

namespace tutti {

/// Waits until a program can be started on all hosts, because mpirun fails at the first that does not answer.
/// Tries it with the program that starts the ranks, for spec.wait_s, by default adapter.host_wait_s. Does
/// nothing where hosts are up when a launch begins, and where this machine is the only one. Throws Error with
/// the last message if a host does not answer in time. Other failures are those of the launch itself.
void wait_for_hosts(const Adapter& adapter, const LaunchSpec& spec, const Allocation& allocation,
                    const Environment& here, std::ostream& err);

}  // namespace tutti
