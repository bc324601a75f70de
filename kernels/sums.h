#pragma once

#include <tutti/core/tape.h>

namespace tutti {

/// Sizes of contiguous x as (outer, reduced, inner).
struct SumExtents {
  int64_t outer = 1;
  int64_t reduced = 1;
  int64_t inner = 1;
};

/// Sums contiguous `x` over its middle dim: (outer, inner) in the accumulate dtype. The sums of chunks, which
/// depend on the extents alone, are added in a binary tree.
Tensor sum_middle(const Tensor& x, const SumExtents& extents, const Stream& stream);

/// Adds the rows of partials (chunks, width) in a binary tree, in place; the sum is in row 0. fp32 or fp64,
/// contiguous.
void add_chunks(const Tensor& partials, const Stream& stream);

/// destination = source or += source, with conversion of dtype.
void store(const Tensor& source, const Tensor& destination, GradMode mode, const Stream& stream);

}  // namespace tutti
