#pragma once

#include "launcher/launch/adapter.h"

#include <iosfwd>

namespace tutti {

/// Waits until a program can be started on all hosts of a host file: the pods of a job and machines that boot
/// come when they come, and mpirun gives up at the first that does not answer. Tries it with the very program
/// that starts the ranks. `spec.wait_s` bounds it; by default a minute, ten for the workers of a Kubernetes
/// job. Does nothing for other schedulers, which give hosts that are up, and for a file that names this
/// machine alone. Throws Error with the last message if some host does not answer in time. What goes wrong
/// otherwise is left to the launch itself.
void await_hosts(const Adapter& adapter, const LaunchSpec& spec, const Allocation& allocation,
                 const Surroundings& here, std::ostream& err);

}  // namespace tutti
