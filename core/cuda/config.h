#pragma once

namespace tutti {

/// Whether this build has the CUDA backend. Branch on it with `if constexpr`: the functions that such a
/// branch calls are defined only in a build with CUDA.
#if defined(TUTTI_WITH_CUDA)
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

}  // namespace tutti
