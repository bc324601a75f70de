#pragma once

#include <cstdint>

namespace tutti {

struct MemoryStats {
  int64_t live_bytes = 0;    ///< in use
  int64_t peak_bytes = 0;    ///< most bytes in use at once
  int64_t cached_bytes = 0;  ///< kept for reuse
};

}  // namespace tutti
