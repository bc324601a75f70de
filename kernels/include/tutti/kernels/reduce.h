#pragma once

#include <tutti/core/tape.h>

#include <vector>

// Reductions over any dims, all of them if `dims` is empty; negative dims count from the last. With
// `keep_dims`, reduced dims have size 1 in the result. fp32, bf16 (computed in fp32) or fp64; the result has
// the same dtype. Sums are computed in chunks that depend on the shape alone. All throw Error if a dim is out
// of range or repeated.
namespace tutti {

Var sum(Tape& tape, const Var& x, const std::vector<int>& dims = {}, bool keep_dims = false);
Var mean(Tape& tape, const Var& x, const std::vector<int>& dims = {}, bool keep_dims = false);
/// The first of equal elements has the gradient; if an element is NaN, so is the result.
/// Throws Error if there are no elements to reduce.
Var max(Tape& tape, const Var& x, const std::vector<int>& dims = {}, bool keep_dims = false);

/// The sum of `x` over the dims that are 1 or missing in the shape of `destination`: the gradient of
/// broadcasting that shape to x's. Written to `destination`, of any computable dtype, or added to it.
void sum_to(const Tensor& x, const Tensor& destination, GradMode mode, const Stream& stream);

}  // namespace tutti
