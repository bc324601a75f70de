#pragma once

#include "core/memory/block_cache.h"

// The allocators of the CUDA backend, one of each kind per device. They are never destroyed, as tensors with
// static storage duration may be destroyed after them.
namespace tutti::cuda {

/// The allocator of device memory.
BlockCache& device_memory(int device);

/// The allocator of page-locked host memory, for asynchronous copies from and to the device.
BlockCache& pinned_memory(int device);

}  // namespace tutti::cuda
