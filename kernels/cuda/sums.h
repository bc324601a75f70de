#pragma once

#include <tutti/core/tensor.h>

// sum_middle and add_chunks (kernels/sums.h) on CUDA.
namespace tutti::cuda {

/// Sums contiguous x (outer, reduced, inner) over the middle dim in chunks: partial sums (chunks, outer *
/// inner) in the accumulate dtype, for add_chunks. The chunks depend on the shape alone.
Tensor sum_middle_parts(const Tensor& x, int64_t outer, int64_t reduced, int64_t inner, const Stream& stream);

/// Adds the rows of partials (chunks, width) into row 0, in an order that depends on the shape alone.
void add_chunks(const Tensor& partials, const Stream& stream);

}  // namespace tutti::cuda
