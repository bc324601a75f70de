#pragma once

#include "kernels/fp8/pass.h"

// Operands of fp8 products (kernels/fp8.h) on CUDA.
namespace tutti::cuda {

/// largest = max(largest, the largest magnitude of x): `largest` () fp32, x bf16, contiguous. NaN counts as
/// larger than all numbers. Memory traffic: 2 bytes per element.
void measure(const Tensor& x, const Tensor& largest, const Stream& stream);

/// Computes the matrix that `source` describes, bf16 (rows, columns) with extents that are multiples of
/// kFp8Multiple, and writes it as operand.bytes, operand.transposed and operand.unit, with the scale that
/// follows from `range` (1) bf16. Updates `largest` as measure() does. Returns the sums of the columns,
/// (columns) fp32, if `with_sums`. Memory traffic: 4 bytes per element, in one pass.
Tensor quantise(const OperandSource& source, const Tensor& range, const Tensor& largest,
                const ProductOperand& operand, bool with_sums, const Stream& stream);

}  // namespace tutti::cuda
