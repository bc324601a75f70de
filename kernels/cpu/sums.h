#pragma once

#include "kernels/sums.h"

// sum_middle and add_chunks (kernels/sums.h) on the CPU.
namespace tutti::cpu {

/// `extents.outer` and `extents.inner` are not 0.
Tensor sum_middle(const Tensor& x, const SumExtents& extents, const Stream& stream);
/// `partials` has at least two rows and is not empty.
void add_chunks(const Tensor& partials, const Stream& stream);

}  // namespace tutti::cpu
