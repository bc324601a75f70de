#pragma once

#include "core/memory/block_cache.h"

#include <cstdint>

namespace tutti {

/// Memory of work captured for replay (a CUDA graph). Replays use the addresses of the capture, so that
/// memory must not be reused as long as the graph can run.
///
/// While a MemoryCapture exists, this thread captures work: its allocations, from any cache, come from memory
/// reserved for the capture, and memory that it frees is not reused by others before forget(). No thread
/// records stream events, since events of captured streams cannot be queried, and this one releases no
/// memory.
class MemoryCapture {
 public:
  using Id = uint64_t;  ///< 0 is none
  static Id fresh() noexcept;

  explicit MemoryCapture(Id id) noexcept;
  ~MemoryCapture();
  MemoryCapture(const MemoryCapture&) = delete;
  MemoryCapture& operator=(const MemoryCapture&) = delete;

  /// The capture will not run again: its memory in `cache` becomes available to other requests.
  static void forget(BlockCache& cache, Id id);

 private:
  Id before_;
};

}  // namespace tutti
