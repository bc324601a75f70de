#pragma once

#include "launcher/launch/failure_message.h"

#include <string_view>

namespace tutti {

/// What srun and slurmstepd say of ranks that failed.
FailureMessage parse_slurm_message(std::string_view line);

}  // namespace tutti
