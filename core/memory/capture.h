#pragma once

#include "core/memory/block_cache.h"

#include <cstdint>

namespace tutti {

/// Memory of work that is captured for replay (a CUDA graph): replays use the addresses that the capture was
/// given, so nothing else may have them as long as it can run.
///
/// While a MemoryCapture lives, this thread captures work: what it takes, from any cache, comes from memory
/// that serves the capture alone, and what it gives back serves nothing else before forget(). No event of a
/// stream is recorded, since those of captured streams cannot be asked, and no memory is released.
class MemoryCapture {
 public:
  using Id = uint64_t;  ///< 0 is none
  static Id fresh() noexcept;

  explicit MemoryCapture(Id id) noexcept;
  ~MemoryCapture();
  MemoryCapture(const MemoryCapture&) = delete;
  MemoryCapture& operator=(const MemoryCapture&) = delete;

  /// The capture will not run any more: what it has of `cache` serves other requests from now on.
  static void forget(BlockCache& cache, Id id);

 private:
  Id before_;
};

}  // namespace tutti
