#pragma once

#include "kernels/plan/gemm_problem.h"

// The one door to cuBLASLt. Sums are fp32 (fp64 for fp64), without TF32. Products of more than some
// megaflops are measured on first use with each algorithm that the library proposes; the fastest is kept for
// the process and, in autotune_directory(), for later ones. Algorithms that add parts in an order that
// depends on timing are never taken: the same problem gives the same bits for as long as the choice stands.
namespace tutti::cuda {

/// C = A B or C += A B on the stream's device, for each of the batch. Throws Error naming the problem if
/// cuBLASLt cannot do it.
void gemm(const Gemm& product, const Stream& stream, const GemmBatch& batch = {});

/// The same with an epilogue; false, with nothing done, where cuBLASLt does not have that for this problem.
[[nodiscard]] bool try_gemm(const Gemm& product, const GemmFusion& fusion, const Stream& stream);

}  // namespace tutti::cuda
