#pragma once

#include <tutti/core/tape.h>

#include <span>

// Shapes and selections with gradients, for any floating dtype. Views share x's storage; negative dims count
// from the last. Errors are those of the Tensor methods of the same names.
namespace tutti {

/// One size may be -1. A view where x's strides allow it, else a copy.
Var view(Tape& tape, const Var& x, const Shape& shape);
/// A strided view.
Var transpose(Tape& tape, const Var& x, int a, int b);
/// A strided view.
Var permute(Tape& tape, const Var& x, const Shape& order);
/// Elements [begin, end) of a dim with a step >= 1; a strided view.
Var slice(Tape& tape, const Var& x, int dim, int64_t begin, int64_t end, int64_t step = 1);
/// A view with strides of 0; the gradient is summed back to x's shape.
Var expand(Tape& tape, const Var& x, const Shape& shape);

/// Concatenates tensors along `dim`. All other sizes and the dtypes must be equal.
/// Throws Error otherwise.
Var concat(Tape& tape, std::span<const Var> parts, int dim);
Var concat(Tape& tape, std::initializer_list<Var> parts, int dim);

/// y[.., i, ..] = x[.., indices[i], ..] along `dim`; indices (n) int32 or int64 may repeat. The gradients of
/// equal indices are added in their order. Throws Error if an index is outside [0, size of dim).
Var gather(Tape& tape, const Var& x, int dim, const Tensor& indices);

}  // namespace tutti
