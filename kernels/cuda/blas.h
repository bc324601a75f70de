#pragma once

#include "kernels/plan/gemm_problem.h"

// All calls of cuBLASLt go through this file. Sums are fp32 (fp64 for fp64), without TF32. Products above a
// minimum size are autotuned on first use: each algorithm that the library proposes is measured, and the
// fastest is cached in the process and in autotune_directory(). Algorithms that add partial sums in an order
// that depends on timing are never used: with the same algorithm, the same problem gives the same bits.
namespace tutti::cuda {

/// C = A B or C += A B on the stream's device, for each matrix of the batch. Throws Error with the problem in
/// its message if cuBLASLt has no algorithm for it.
void gemm(const Gemm& product, const Stream& stream, const GemmBatch& batch = {});

/// The same with an epilogue. Returns false and does nothing if cuBLASLt has no algorithm with it.
[[nodiscard]] bool try_gemm(const Gemm& product, const GemmFusion& fusion, const Stream& stream);

}  // namespace tutti::cuda
