#pragma once

#include "kernels/sums.h"

// sum_middle and add_chunks (kernels/sums.h) on the CPU.
namespace tutti::cpu {

/// Extents are not empty.
Tensor sum_middle(const Tensor& x, const SumExtents& extents, const Stream& stream);
/// At least two rows, not empty.
void add_chunks(const Tensor& partials, const Stream& stream);

}  // namespace tutti::cpu
