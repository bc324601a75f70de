#include "kernels/cuda/cublaslt.h"

#include "core/cuda/runtime.h"

#include <algorithm>

namespace tutti::cuda {
namespace {

// On Hopper the fastest algorithms need 32 MiB; no measured shape needed more than this.
constexpr uint64_t kMostWorkspace = uint64_t{64} << 20;

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return CUDA_R_32F;
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat64:
      return CUDA_R_64F;
    default:
      fail("gemm: unsupported dtype {}", name(dtype));
  }
}

cudaDataType_t cuda_type(Fp8Format format, DType otherwise) {
  switch (format) {
    case Fp8Format::kE4M3:
      return CUDA_R_8F_E4M3;
    case Fp8Format::kE5M2:
      return CUDA_R_8F_E5M2;
    case Fp8Format::kNone:
      break;
  }
  return cuda_type(otherwise);
}

cublasLtEpilogue_t epilogue_of(GemmEpilogue epilogue) {
  switch (epilogue) {
    case GemmEpilogue::kNone:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case GemmEpilogue::kBias:
      return CUBLASLT_EPILOGUE_BIAS;
    case GemmEpilogue::kGeluTanh:
      return CUBLASLT_EPILOGUE_GELU_AUX;
    case GemmEpilogue::kBiasGeluTanh:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case GemmEpilogue::kGeluTanhGradient:
      return CUBLASLT_EPILOGUE_DGELU;
  }
  fail("gemm: unknown epilogue {}", static_cast<int>(epilogue));
}

template <class T>
void set(const LtPlan& plan, cublasLtMatmulDescAttributes_t attribute, const T& value) {
  check(cublasLtMatmulDescSetAttribute(plan.operation.get(), attribute, &value, sizeof value),
        "cublasLtMatmulDescSetAttribute");
}

template <class T>
void set(const LtPreference& preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  check(cublasLtMatmulPreferenceSetAttribute(preference.get(), attribute, &value, sizeof value),
        "cublasLtMatmulPreferenceSetAttribute");
}

struct Extents {
  int64_t rows, columns, ld, stride;
};

LtLayout layout(cudaDataType_t type, const Extents& e, int64_t batch) {
  cublasLtMatrixLayout_t handle = nullptr;
  check(cublasLtMatrixLayoutCreate(&handle, type, static_cast<uint64_t>(e.rows),
                                   static_cast<uint64_t>(e.columns), e.ld),
        "cublasLtMatrixLayoutCreate");
  LtLayout result(handle);
  if (batch > 1) {
    const auto count = static_cast<int32_t>(batch);
    check(cublasLtMatrixLayoutSetAttribute(handle, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "cublasLtMatrixLayoutSetAttribute");
    check(cublasLtMatrixLayoutSetAttribute(handle, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &e.stride,
                                           sizeof e.stride),
          "cublasLtMatrixLayoutSetAttribute");
  }
  return result;
}

/// Whether partial sums are added in the compute type (fp32 or fp64) and in an order that does not depend on
/// timing.
bool reproducible(const cublasLtMatmulAlgo_t& algorithm) {
  uint32_t scheme = 0;
  size_t written = 0;
  if (cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme,
                                           sizeof scheme, &written) != CUBLAS_STATUS_SUCCESS) {
    return false;
  }
  return scheme == CUBLASLT_REDUCTION_SCHEME_NONE || scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
}

}  // namespace

void check(cublasStatus_t status, std::string_view call, std::source_location where) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  check_device(call, where);
  throw Error(
      fmt::format("{} failed: {} ({})", call, cublasLtGetStatusName(status), cublasLtGetStatusString(status)),
      where);
}

LtPlan describe(const GemmProblem& p) {
  const bool wide = p.dtype == DType::kFloat64;
  LtPlan plan;
  cublasLtMatmulDesc_t operation = nullptr;
  check(cublasLtMatmulDescCreate(&operation, wide ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                 wide ? CUDA_R_64F : CUDA_R_32F),
        "cublasLtMatmulDescCreate");
  plan.operation.reset(operation);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p.epilogue));
  const auto stored = [](int64_t rows, int64_t columns, bool transposed, int64_t ld, int64_t stride) {
    return transposed ? Extents{columns, rows, ld, stride} : Extents{rows, columns, ld, stride};
  };
  if (p.fast_sums) set(plan, CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1});
  plan.a = layout(cuda_type(p.fp8_a, p.dtype), stored(p.m, p.k, p.transpose_a, p.lda, p.stride_a), p.batch);
  plan.b = layout(cuda_type(p.fp8_b, p.dtype), stored(p.k, p.n, p.transpose_b, p.ldb, p.stride_b), p.batch);
  plan.c = layout(cuda_type(p.c_dtype), {p.m, p.n, p.ldc, p.stride_c}, p.batch);
  return plan;
}

void set_fusion(const LtPlan& plan, const GemmProblem& problem, const GemmFusion& fusion) {
  if (fusion.bias != nullptr) set(plan, CUBLASLT_MATMUL_DESC_BIAS_POINTER, fusion.bias);
  if (fusion.kept != nullptr) {
    set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, fusion.kept);
    set(plan, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, problem.ldc);
  }
}

void set_units(const LtPlan& plan, const float* a, const float* b) {
  if (a == nullptr) return;
  set(plan, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, static_cast<const void*>(a));
  set(plan, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, static_cast<const void*>(b));
}

std::vector<cublasLtMatmulHeuristicResult_t> propose(cublasLtHandle_t handle, const LtPlan& plan,
                                                     const GemmProblem& problem, int most) {
  cublasLtMatmulPreference_t raw = nullptr;
  check(cublasLtMatmulPreferenceCreate(&raw), "cublasLtMatmulPreferenceCreate");
  const LtPreference preference(raw);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kMostWorkspace);
  set(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  const auto alignment = static_cast<uint32_t>(problem.alignment);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
    set(preference, attribute, alignment);
  }
  std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(most));
  int count = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle, plan.operation.get(), plan.a.get(), plan.b.get(), plan.c.get(),
                                     plan.c.get(), preference.get(), most, results.data(), &count);
  // Both mean that the library has no algorithm, as for an unsupported epilogue or leading dim.
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  check(status, "cublasLtMatmulAlgoGetHeuristic");
  results.resize(static_cast<size_t>(count));
  std::erase_if(results, [](const cublasLtMatmulHeuristicResult_t& r) {
    return r.state != CUBLAS_STATUS_SUCCESS || r.workspaceSize > kMostWorkspace || !reproducible(r.algo);
  });
  return results;
}

std::optional<size_t> accept(cublasLtHandle_t handle, const LtPlan& plan,
                             const cublasLtMatmulAlgo_t& algorithm) {
  cublasLtMatmulHeuristicResult_t result{};
  if (cublasLtMatmulAlgoCheck(handle, plan.operation.get(), plan.a.get(), plan.b.get(), plan.c.get(),
                              plan.c.get(), &algorithm, &result) != CUBLAS_STATUS_SUCCESS ||
      result.workspaceSize > kMostWorkspace || !reproducible(algorithm)) {
    return std::nullopt;
  }
  return result.workspaceSize;
}

}  // namespace tutti::cuda
