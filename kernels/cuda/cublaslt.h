#pragma once

#include <tutti/core/error.h>
#include "kernels/plan/gemm_problem.h"

#include <cublasLt.h>

#include <memory>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>

// Owners of cuBLASLt's handles and wrappers of its calls, for kernels/cuda/blas.cpp alone.
namespace tutti::cuda {

/// Throws Error with `call` and cuBLASLt's name for `status` unless it is success.
void check(cublasStatus_t status, std::string_view call,
           std::source_location where = std::source_location::current());

/// Owner of a cuBLASLt handle that `destroy` frees.
template <class Handle, auto destroy>
struct CublasLtDeleter {
  void operator()(Handle handle) const noexcept { (void)destroy(handle); }
};
template <class Handle, auto destroy>
using CublasLtOwned = std::unique_ptr<std::remove_pointer_t<Handle>, CublasLtDeleter<Handle, destroy>>;

using LtHandle = CublasLtOwned<cublasLtHandle_t, cublasLtDestroy>;
using LtOperation = CublasLtOwned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using LtLayout = CublasLtOwned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using LtPreference = CublasLtOwned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

/// The cuBLASLt descriptors of a problem, and the algorithm for it.
struct LtPlan {
  LtOperation operation;
  LtLayout a, b, c;
  /// None: cuBLASLt has no algorithm for the problem.
  std::optional<cublasLtMatmulAlgo_t> algorithm;
  size_t workspace_bytes = 0;
};

/// The plan of a problem, without an algorithm.
LtPlan describe(const GemmProblem& problem);

/// Sets the addresses of an epilogue.
void set_fusion(const LtPlan& plan, const GemmProblem& problem, const GemmFusion& fusion);

/// Sets the addresses of the fp32 factors, on the device, that A's and B's fp8 values are multiplied by; null
/// for dtypes other than fp8.
void set_units(const LtPlan& plan, const float* a, const float* b);

/// Up to `most` algorithms whose results do not depend on timing, the fastest by cuBLASLt's estimate first;
/// empty if cuBLASLt has none. Source: cuBLAS documentation, cublasLtMatmulAlgoGetHeuristic.
std::vector<cublasLtMatmulHeuristicResult_t> propose(cublasLtHandle_t handle, const LtPlan& plan,
                                                     const GemmProblem& problem, int most);

/// The workspace bytes of a cached algorithm; none if it does not fit the problem or its results may depend
/// on timing.
std::optional<size_t> accept(cublasLtHandle_t handle, const LtPlan& plan,
                             const cublasLtMatmulAlgo_t& algorithm);

}  // namespace tutti::cuda
