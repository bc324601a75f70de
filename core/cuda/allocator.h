#pragma once

#include "core/memory/block_cache.h"

// The allocators of the CUDA backend, one of each kind a device. They are never destroyed: tensors with
// static storage duration may outlive any order of destruction.
namespace tutti::cuda {

/// Memory of a device.
BlockCache& device_memory(int device);

/// Page-locked memory of the host, which the device copies from and to while the host goes on.
BlockCache& pinned_memory(int device);

}  // namespace tutti::cuda
