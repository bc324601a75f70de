#pragma once

#include <tutti/core/stream.h>
#include "comm/elements.h"

#include <vector>

namespace tutti {

/// out = the reduction of `operands`, in rank order, in the tree of Reduce, on a CUDA stream. All are in
/// memory of its device and have one count and dtype. `out` may be one of the operands; the others are not
/// changed.
void reduce_tree(const Elements& out, std::vector<Elements> operands, Reduce op, const Stream& stream);

}  // namespace tutti
