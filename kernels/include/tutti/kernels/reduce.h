#pragma once

#include <tutti/core/tape.h>

#include <vector>

// Reductions over any dims, all of them if `dims` is empty; negative dims count from the last. `keep_dims`
// leaves reduced dims with size 1. fp32, bf16 (computed in fp32) and fp64, which is the result's dtype too.
// Sums run in chunks that depend on the shape alone. All throw Error on a dim that is out of range or stands
// twice.
namespace tutti {

Var sum(Tape& tape, const Var& x, const std::vector<int>& dims = {}, bool keep_dims = false);
Var mean(Tape& tape, const Var& x, const std::vector<int>& dims = {}, bool keep_dims = false);
/// The gradient goes to the first of equal elements; a NaN among the elements is the result.
/// Throws Error if there is nothing to take the largest of.
Var max(Tape& tape, const Var& x, const std::vector<int>& dims = {}, bool keep_dims = false);

/// The sum of `x` over the dims in which `shape` is 1 or missing: the gradient of broadcasting `shape` to
/// x's. Written to `destination` of that shape in any computable dtype, or added to it.
void sum_to(const Tensor& x, const Tensor& destination, GradMode mode, const Stream& stream);

}  // namespace tutti
