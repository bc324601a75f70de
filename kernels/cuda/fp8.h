#pragma once

#include "kernels/fp8/pass.h"

// Operands of fp8 products (kernels/fp8.h) on CUDA.
namespace tutti::cuda {

/// Raises `largest` () fp32 to the largest magnitude of contiguous bf16 x; NaN is larger than all numbers.
/// Bytes: 2 for each element.
void measure(const Tensor& x, const Tensor& largest, const Stream& stream);

/// Writes operand.bytes, operand.transposed and operand.unit from what `source` stands for, bf16 (rows,
/// columns) with extents that are multiples of kFp8Multiple, with the scale that `range` (1) bf16 gives;
/// raises `largest` as measure() does. Returns the sums of the columns, (columns) fp32, if they are asked
/// for. One pass over what the source is made of: 4 bytes for each element.
Tensor quantise(const OperandSource& source, const Tensor& range, const Tensor& largest,
                const ProductOperand& operand, bool with_sums, const Stream& stream);

}  // namespace tutti::cuda
