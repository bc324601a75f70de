#pragma once

#include "nccl.h"

namespace software_cuda {

/// Bytes of an element.
size_t size_of(ncclDataType_t type);

/// to = to + from, rounded to the type, as at each hop of a ring.
void add(std::byte* to, const std::byte* from, size_t count, ncclDataType_t type);

}  // namespace software_cuda
