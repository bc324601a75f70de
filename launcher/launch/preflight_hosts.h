#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/preflight/preflight.h"

#include <iosfwd>
#include <string>

namespace tutti {

/// The launch without the hosts that failed a preflight. Bad hosts are excluded as long as others remain;
/// slow ones only if the allocation has a replacement, because a slow host is better than none. Reports to
/// `err`. Throws Error if the findings are fatal.
LaunchSpec without_bad_hosts(const LaunchSpec& spec, const Allocation& allocation,
                             const PreflightAnswer& answer, std::ostream& err);

/// Runs a brief `tutti preflight` on all hosts of the allocation as the ranks themselves are started, keeps
/// its result as preflight.json in spec.run_directory, and returns without_bad_hosts(). If a preflight has
/// no result, that is reported to `err`, and training begins. `run_file` is the training's.
LaunchSpec preflight_hosts(const Adapter& adapter, const LaunchSpec& spec, const Allocation& allocation,
                           const Environment& here, const std::string& run_file, std::ostream& err);

}  // namespace tutti
