#pragma once

#include "launcher/launch/mpi_library.h"

#include <string_view>

namespace tutti {

/// The type of `srun --mpi=` that the library works with.
std::string_view default_srun_mpi(const MpiLibrary& library);

/// Throws Error with advice if ranks of this library cannot find each other under `srun --mpi=type`: each
/// would be a world of its own.
void check_srun_mpi(const MpiLibrary& library, std::string_view type);

/// Throws Error with advice if srun does not offer the type. `offered` is what `srun --mpi=list` prints.
void check_srun_offers(const MpiLibrary& library, std::string_view type, std::string_view offered);

}  // namespace tutti
