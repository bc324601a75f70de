#pragma once

#include <tutti/core/tensor.h>
#include "kernels/row/pointwise.h"

#include <array>

// Pointwise operations on CUDA with the functors of kernels/row/pointwise.h. Tensors are contiguous and on
// the stream's device. Instantiated in map.cu and pointwise.cu for the lists of functors.
namespace tutti::cuda {

/// y = op(x); y may be x.
template <row::Listed<row::UnaryOps> Op>
void map(const Tensor& x, const Tensor& y, Op op, const Stream& stream);

/// dx = dy * derivative(saved); dx may be dy. `saved` is undefined if the derivative is constant.
template <row::Listed<row::UnaryOps> Op>
void map_backward(const Tensor& dy, const Tensor& saved, const Tensor& dx, Op op, const Stream& stream);

/// out = op(a, b) with broadcasting to out's shape.
template <row::Listed<row::BinaryOps> Op>
void binary(const Tensor& a, const Tensor& b, const Tensor& out, Op op, const Stream& stream);

/// out = dy times the derivative of op with respect to operand `which` (0 or 1). The operands broadcast to
/// dy's shape; out may be dy.
template <row::Listed<row::BinaryOps> Op>
void binary_backward(const Tensor& dy, const std::array<Tensor, 2>& operands, int which, const Tensor& out,
                     Op op, const Stream& stream);

/// y (rows, h) = silu(gate) * up from x (rows, 2 h) = gate | up.
void swiglu(const Tensor& x, const Tensor& y, const Stream& stream);
void swiglu_backward(const Tensor& dy, const Tensor& x, const Tensor& dx, const Stream& stream);

}  // namespace tutti::cuda
