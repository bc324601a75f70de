#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/preflight/preflight.h"

#include <iosfwd>
#include <string>

namespace tutti {

/// The launch without the hosts that a preflight found wanting. Bad ones are left out as long as others
/// remain; slow ones only where the allocation has another host in their place, because a slow host is still
/// faster than none. Says on `err` what it does. Throws Error if the findings are fatal.
LaunchSpec without_bad_hosts(const LaunchSpec& spec, const Allocation& allocation,
                             const PreflightAnswer& answer, std::ostream& err);

/// Runs a brief `tutti preflight` on all hosts of the allocation as the ranks themselves are started, keeps
/// its result as preflight.json in spec.run_directory, and returns without_bad_hosts(). A preflight that does
/// not come to a result is told on `err`, and training begins all the same. `run_file` is the training's.
LaunchSpec try_hosts(const Adapter& adapter, const LaunchSpec& spec, const Allocation& allocation,
                     const Surroundings& here, const std::string& run_file, std::ostream& err);

}  // namespace tutti
