#pragma once

namespace tutti {

/// Whether this build has the CUDA backend. Branches on it are `if constexpr`: what they call exists only in
/// a build with CUDA.
#if defined(TUTTI_WITH_CUDA)
inline constexpr bool kWithCuda = true;
#else
inline constexpr bool kWithCuda = false;
#endif

}  // namespace tutti
