#pragma once

#include "launcher/launch/adapter.h"

#include <iosfwd>

namespace tutti {

/// Checks that the programs that a launch will use fit the MPI that this program is built with: the version
/// of mpirun, or rendered.check. Throws Error with advice if they do not, or are not there.
void check_tools(const LaunchSpec& spec, const Rendered& rendered, const Environment& here);

/// Throws Error naming the file if a launch would write over one that no launch has written: a script, a host
/// file or a record, also of a sweep's combinations, or the result of a preflight.
void check_own_files(const LaunchSpec& spec, const Rendered& rendered);

/// Writes the files of a launch, submits it, records the job in launch.json and prints its id and what can
/// be done next. Throws Error with the scheduler's message if it refuses; the id of a submitted job is
/// printed even if launch.json cannot be written.
void submit(const Adapter& adapter, const LaunchSpec& spec, const Rendered& rendered, const Environment& here,
            std::ostream& out, std::ostream& err);

}  // namespace tutti
