// Products by the contract of cuBLASLt: what its documentation excludes is refused, and its algorithms add in
// different orders, one of them with partial sums in a workspace.
#include "cublasLt.h"

#include "tests/device/race.h"

#include <cblas.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <vector>

struct cublasLtContext {};
struct cublasLtMatmulDescOpaque {
  cublasComputeType_t compute;
  std::map<cublasLtMatmulDescAttributes_t, uint64_t> values;
};
struct cublasLtMatrixLayoutOpaque {
  cudaDataType_t type;
  int64_t rows, columns, ld;
  int32_t batch = 1;
  int64_t stride = 0;
};
struct cublasLtMatmulPreferenceOpaque {
  std::map<cublasLtMatmulPreferenceAttributes_t, uint64_t> values;
};

namespace {

namespace race = software_cuda::race;
using Layout = cublasLtMatrixLayoutOpaque;
using Operation = cublasLtMatmulDescOpaque;

size_t bytes_of(cudaDataType_t type) {
  switch (type) {
    case CUDA_R_64F:
      return 8;
    case CUDA_R_32F:
      return 4;
    case CUDA_R_16BF:
      return 2;
    default:
      return 1;
  }
}

bool is_fp8(cudaDataType_t type) {
  return type == CUDA_R_8F_E4M3 || type == CUDA_R_8F_E5M2;
}

double fp8_value(uint8_t code, int mantissa_bits, int bias) {
  const int magnitude = code & 0x7f;
  const double sign = (code & 0x80) != 0 ? -1 : 1;
  const int exponent = magnitude >> mantissa_bits;
  const int mantissa = magnitude & ((1 << mantissa_bits) - 1);
  if (mantissa_bits == 3 && magnitude == 0x7f) return NAN;
  if (mantissa_bits == 2 && exponent == 31) return mantissa == 0 ? sign * INFINITY : NAN;
  const double units = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  return sign * std::ldexp(units, std::max(exponent, 1) - bias - mantissa_bits);
}

double read(const std::byte* at, cudaDataType_t type) {
  switch (type) {
    case CUDA_R_64F: {
      double value = 0;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case CUDA_R_32F: {
      float value = 0;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    case CUDA_R_16BF: {
      uint16_t bits = 0;
      std::memcpy(&bits, at, sizeof bits);
      return std::bit_cast<float>(uint32_t{bits} << 16);
    }
    case CUDA_R_8F_E4M3:
      return fp8_value(static_cast<uint8_t>(*at), 3, 7);
    default:
      return fp8_value(static_cast<uint8_t>(*at), 2, 15);
  }
}

void write(std::byte* at, cudaDataType_t type, double value) {
  if (type == CUDA_R_64F) {
    std::memcpy(at, &value, sizeof value);
    return;
  }
  const auto single = static_cast<float>(value);
  if (type == CUDA_R_32F) {
    std::memcpy(at, &single, sizeof single);
    return;
  }
  const auto u = std::bit_cast<uint32_t>(single);
  const auto bits =
      static_cast<uint16_t>(std::isnan(single) ? (u >> 16) | 0x40U : (u + 0x7fffU + ((u >> 16) & 1U)) >> 16);
  std::memcpy(at, &bits, sizeof bits);
}

/// What a call reads from its descriptors; they may change before the work runs.
struct Problem {
  cublasComputeType_t compute{};
  bool transpose_a = false, transpose_b = false;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  Layout a{}, b{}, c{};
  const std::byte* bias = nullptr;
  std::byte* aux = nullptr;
  int64_t aux_ld = 0;
  const float* a_scale = nullptr;
  const float* b_scale = nullptr;

  [[nodiscard]] int64_t m() const { return c.rows; }
  [[nodiscard]] int64_t n() const { return c.columns; }
  [[nodiscard]] int64_t k() const { return transpose_a ? a.rows : a.columns; }
  [[nodiscard]] bool has_bias() const {
    return epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  }
  [[nodiscard]] bool has_aux() const {
    return epilogue != CUBLASLT_EPILOGUE_DEFAULT && epilogue != CUBLASLT_EPILOGUE_BIAS;
  }
};

template <class T>
T value_of(const Operation& operation, cublasLtMatmulDescAttributes_t attribute) {
  const auto found = operation.values.find(attribute);
  T value{};
  if (found != operation.values.end()) std::memcpy(&value, &found->second, sizeof value);
  return value;
}

Problem problem_of(const Operation& o, const Layout& a, const Layout& b, const Layout& c) {
  return {.compute = o.compute,
          .transpose_a = value_of<cublasOperation_t>(o, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T,
          .transpose_b = value_of<cublasOperation_t>(o, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T,
          .epilogue = value_of<cublasLtEpilogue_t>(o, CUBLASLT_MATMUL_DESC_EPILOGUE),
          .a = a,
          .b = b,
          .c = c,
          .bias = value_of<const std::byte*>(o, CUBLASLT_MATMUL_DESC_BIAS_POINTER),
          .aux = value_of<std::byte*>(o, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER),
          .aux_ld = value_of<int64_t>(o, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD),
          .a_scale = value_of<const float*>(o, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER),
          .b_scale = value_of<const float*>(o, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER)};
}

cublasStatus_t validity(const Problem& p) {
  const bool fits = (p.transpose_a ? p.a.columns : p.a.rows) == p.m() &&
                    (p.transpose_b ? p.b.rows : p.b.columns) == p.n() &&
                    (p.transpose_b ? p.b.columns : p.b.rows) == p.k() && p.a.batch == p.c.batch &&
                    p.b.batch == p.c.batch && p.m() > 0 && p.n() > 0 && p.k() > 0;
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  for (const Layout* layout : {&p.a, &p.b, &p.c}) {
    if (layout->ld < layout->rows) return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool fp8 = is_fp8(p.a.type);
  if (is_fp8(p.b.type) != fp8 || is_fp8(p.c.type)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (fp8) {
    // "A must be transposed and B not"; dims and leading dims are multiples of 16; not both E5M2.
    if (!p.transpose_a || p.transpose_b || p.a.ld % 16 != 0 || p.b.ld % 16 != 0 || p.m() % 16 != 0 ||
        p.n() % 16 != 0 || p.k() % 16 != 0 || p.has_aux())
      return CUBLAS_STATUS_NOT_SUPPORTED;
    if (p.a.type == CUDA_R_8F_E5M2 && p.b.type == CUDA_R_8F_E5M2) return CUBLAS_STATUS_NOT_SUPPORTED;
  } else if (p.a.type != p.b.type) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  const bool wide = p.a.type == CUDA_R_64F;
  if (wide != (p.compute == CUBLAS_COMPUTE_64F) || wide != (p.c.type == CUDA_R_64F))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (wide && p.epilogue != CUBLASLT_EPILOGUE_DEFAULT) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.a.type == CUDA_R_32F && p.c.type != CUDA_R_32F) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (p.has_aux() && (p.c.type != CUDA_R_16BF || p.aux_ld % 8 != 0 || p.c.batch != 1))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  return CUBLAS_STATUS_SUCCESS;
}

enum Way : uint64_t { kOnePass, kSplitInWorkspace, kSplitInPlace, kWays };
constexpr uint64_t kMark = 0x7475747469;  // in algorithms of this file
constexpr size_t kSplitWorkspace = size_t{1} << 16;

/// Identifies the kind of problem that an algorithm was chosen for.
uint64_t kind_of(const Problem& p) {
  uint64_t kind = 17;
  for (const int64_t part : {int64_t{p.a.type}, int64_t{p.b.type}, int64_t{p.c.type}, int64_t{p.transpose_a},
                             int64_t{p.transpose_b}, int64_t{p.epilogue}})
    kind = kind * 31 + static_cast<uint64_t>(part);
  return kind;
}

cublasLtMatmulHeuristicResult_t way(const Problem& p, Way which) {
  cublasLtMatmulHeuristicResult_t result{};
  result.algo.data[0] = kMark;
  result.algo.data[1] = which;
  result.algo.data[2] = kind_of(p);
  result.workspaceSize = which == kSplitInWorkspace ? kSplitWorkspace : 0;
  result.state = CUBLAS_STATUS_SUCCESS;
  return result;
}

template <class T>
std::vector<T> gathered(const std::byte* from, const Layout& layout, bool transposed, int64_t index) {
  const size_t bytes = bytes_of(layout.type);
  std::vector<T> all(static_cast<size_t>(layout.rows * layout.columns));
  for (int64_t c = 0; c < layout.columns; ++c) {
    race::touch(from + static_cast<size_t>(index * layout.stride + c * layout.ld) * bytes,
                static_cast<size_t>(layout.rows) * bytes, race::Kind::kRead);
    for (int64_t r = 0; r < layout.rows; ++r) {
      const int64_t at = index * layout.stride + c * layout.ld + r;
      const int64_t to = transposed ? r * layout.columns + c : c * layout.rows + r;
      all[static_cast<size_t>(to)] =
          static_cast<T>(read(from + static_cast<size_t>(at) * bytes, layout.type));
    }
  }
  return all;
}

void product(int m, int n, int k, const float* a, const float* b, int ldb, float* c) {
  cblas_sgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, m, b, ldb, 0, c, m);
}
void product(int m, int n, int k, const double* a, const double* b, int ldb, double* c) {
  cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, m, b, ldb, 0, c, m);
}

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}
double gelu_derivative(double x) {
  const double t = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
  return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

template <class T>
void run(const Problem& p, Way which, double alpha, double beta, const std::byte* a, const std::byte* b,
         const std::byte* c, std::byte* d, void* workspace) {
  const auto m = static_cast<int>(p.m());
  const auto n = static_cast<int>(p.n());
  const auto k = static_cast<int>(p.k());
  const size_t bytes = bytes_of(p.c.type);
  if (p.a_scale != nullptr) alpha *= static_cast<double>(*p.a_scale);
  if (p.b_scale != nullptr) alpha *= static_cast<double>(*p.b_scale);
  for (int64_t index = 0; index < p.c.batch; ++index) {
    const std::vector<T> left = gathered<T>(a, p.a, p.transpose_a, index);   // m x k
    const std::vector<T> right = gathered<T>(b, p.b, p.transpose_b, index);  // k x n
    std::vector<T> sums(static_cast<size_t>(m) * static_cast<size_t>(n));
    const int half = which == kOnePass || k < 2 ? k : k / 2;
    product(m, n, half, left.data(), right.data(), k, sums.data());
    if (half < k) {
      std::vector<T> rest(sums.size());
      product(m, n, k - half, left.data() + static_cast<size_t>(half) * static_cast<size_t>(m),
              right.data() + half, k, rest.data());
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += rest[i];
    }
    if (which == kSplitInWorkspace) {
      race::touch(workspace, kSplitWorkspace, race::Kind::kWrite);
      std::memset(workspace, 0xff, kSplitWorkspace);
    }
    for (int64_t column = 0; column < n; ++column) {
      race::touch(d + static_cast<size_t>(index * p.c.stride + column * p.c.ld) * bytes,
                  static_cast<size_t>(m) * bytes, race::Kind::kWrite);
      if (p.has_aux()) {
        race::touch(p.aux + static_cast<size_t>(column * p.aux_ld) * bytes, static_cast<size_t>(m) * bytes,
                    p.epilogue == CUBLASLT_EPILOGUE_DGELU ? race::Kind::kRead : race::Kind::kWrite);
      }
      for (int64_t row = 0; row < m; ++row) {
        const auto at = static_cast<size_t>(index * p.c.stride + column * p.c.ld + row) * bytes;
        double value = alpha * static_cast<double>(sums[static_cast<size_t>(column * m + row)]);
        if (beta != 0) value += beta * read(c + at, p.c.type);
        if (p.has_bias()) value += read(p.bias + static_cast<size_t>(row) * bytes, p.c.type);
        const auto aux = static_cast<size_t>(column * p.aux_ld + row) * bytes;
        if (p.epilogue == CUBLASLT_EPILOGUE_GELU_AUX || p.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
          write(p.aux + aux, p.c.type, value);
          value = gelu(value);
        } else if (p.epilogue == CUBLASLT_EPILOGUE_DGELU) {
          value *= gelu_derivative(read(p.aux + aux, p.c.type));
        }
        write(d + at, p.c.type, value);
      }
    }
  }
}

bool aligned(const void* address, size_t bytes) {
  return reinterpret_cast<uintptr_t>(address) % bytes == 0;
}

}  // namespace

const char* cublasLtGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown";
}

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return cublasLtGetStatusName(status);
}

size_t cublasLtGetVersion() {
  return 130000;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  // OpenBLAS's own threads would outlive the device's.
  openblas_set_num_threads(1);
  *handle = new cublasLtContext;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* operation, cublasComputeType_t compute,
                                        cudaDataType_t) {
  *operation = new Operation{compute, {}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t operation) {
  delete operation;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute, const void* value,
                                              size_t bytes) {
  const size_t expected = attribute == CUBLASLT_MATMUL_DESC_FAST_ACCUM ? 1
                          : attribute == CUBLASLT_MATMUL_DESC_TRANSA ||
                                  attribute == CUBLASLT_MATMUL_DESC_TRANSB ||
                                  attribute == CUBLASLT_MATMUL_DESC_EPILOGUE
                              ? 4
                              : 8;
  if (bytes != expected) return CUBLAS_STATUS_INVALID_VALUE;
  uint64_t stored = 0;
  std::memcpy(&stored, value, bytes);
  operation->values[attribute] = stored;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld) {
  *layout = new Layout{type, static_cast<int64_t>(rows), static_cast<int64_t>(columns), ld};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout) {
  delete layout;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute, const void* value,
                                                size_t bytes) {
  const bool is_count = attribute == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT;
  if (bytes != (is_count ? sizeof layout->batch : sizeof layout->stride)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(is_count ? static_cast<void*>(&layout->batch) : static_cast<void*>(&layout->stride), value,
              bytes);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  *preference = new cublasLtMatmulPreferenceOpaque;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  delete preference;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  if (bytes != (attribute == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4))
    return CUBLAS_STATUS_INVALID_VALUE;
  uint64_t stored = 0;
  std::memcpy(&stored, value, bytes);
  preference->values[attribute] = stored;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t* results, int* count) {
  *count = 0;
  const Problem p = problem_of(*operation, *a, *b, *c);
  if (const cublasStatus_t status = validity(p); status != CUBLAS_STATUS_SUCCESS) return status;
  const auto alignment = [&](cublasLtMatmulPreferenceAttributes_t attribute) {
    const auto found = preference->values.find(attribute);
    return found == preference->values.end() ? 256 : found->second;
  };
  if (is_fp8(p.a.type) && (alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES) < 16 ||
                           alignment(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES) < 16))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  // The mask may be ignored, as by the library: one whose sums depend on timing is offered too.
  for (const Way which : {kSplitInWorkspace, kSplitInPlace, kOnePass}) {
    if (*count < most) results[(*count)++] = way(p, which);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                       cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                       cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t,
                                       const cublasLtMatmulAlgo_t* algorithm,
                                       cublasLtMatmulHeuristicResult_t* result) {
  const Problem p = problem_of(*operation, *a, *b, *c);
  if (const cublasStatus_t status = validity(p); status != CUBLAS_STATUS_SUCCESS) return status;
  if (algorithm->data[0] != kMark || algorithm->data[1] >= kWays || algorithm->data[2] != kind_of(p))
    return CUBLAS_STATUS_INVALID_VALUE;
  *result = way(p, static_cast<Way>(algorithm->data[1]));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t, void* value,
                                                    size_t bytes, size_t* written) {
  if (algorithm->data[0] != kMark || bytes != sizeof(uint32_t)) return CUBLAS_STATUS_INVALID_VALUE;
  const uint32_t scheme = algorithm->data[1] == kOnePass            ? CUBLASLT_REDUCTION_SCHEME_NONE
                          : algorithm->data[1] == kSplitInWorkspace ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                                                    : CUBLASLT_REDUCTION_SCHEME_INPLACE;
  std::memcpy(value, &scheme, sizeof scheme);
  *written = sizeof scheme;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace, size_t workspace_bytes,
                              cudaStream_t stream) {
  const Problem p = problem_of(*operation, *a_layout, *b_layout, *c_layout);
  if (const cublasStatus_t status = validity(p); status != CUBLAS_STATUS_SUCCESS) return status;
  if (algorithm->data[0] != kMark || algorithm->data[2] != kind_of(p)) return CUBLAS_STATUS_INVALID_VALUE;
  const auto which = static_cast<Way>(algorithm->data[1]);
  if (which == kSplitInWorkspace && (workspace_bytes < kSplitWorkspace || !aligned(workspace, 256)))
    return CUBLAS_STATUS_INVALID_VALUE;
  const size_t alignment = is_fp8(p.a.type) ? 16 : bytes_of(p.a.type);
  if (!aligned(a, alignment) || !aligned(b, alignment) || !aligned(d, bytes_of(p.c.type)))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if ((p.has_bias() && p.bias == nullptr) || (p.has_aux() && p.aux == nullptr))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (is_fp8(p.a.type) && (p.a_scale == nullptr || p.b_scale == nullptr)) return CUBLAS_STATUS_INVALID_VALUE;
  const bool wide = p.compute == CUBLAS_COMPUTE_64F;
  const auto factor = [&](const void* from) {
    return wide ? *static_cast<const double*>(from) : static_cast<double>(*static_cast<const float*>(from));
  };
  const auto at = [](const void* memory) { return static_cast<const std::byte*>(memory); };
  const cudaError_t submitted =
      software_cuda::submit(stream, "cublasLtMatmul",
                            [p, which, alpha = factor(alpha), beta = factor(beta), a = at(a), b = at(b),
                             c = at(c), d = static_cast<std::byte*>(d), workspace, wide] {
                              wide ? run<double>(p, which, alpha, beta, a, b, c, d, workspace)
                                   : run<float>(p, which, alpha, beta, a, b, c, d, workspace);
                            });
  return submitted == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
