#pragma once

#include <tutti/core/float8.h>
#include <tutti/core/tensor.h>

#include <cstdint>
#include <string_view>

// The one door to the CPU's matrix library: oneDNN, else OpenBLAS, else own loops. All of them are called
// with one thread; parallelism is ours, over tiles that depend on shapes alone, so that results do not depend
// on the number of threads.
namespace tutti::cpu {

/// A matrix operand in memory: element (i, j) stands at data[i * ld + j], or at data[j * ld + i] if
/// transposed.
struct Matrix {
  const void* data = nullptr;
  int64_t ld = 0;
  bool transposed = false;
};

/// Operands that are bytes of fp8 formats, on CUDA devices only.
struct Fp8Factors {
  Fp8Format a = Fp8Format::kNone, b = Fp8Format::kNone;
  const float* a_unit = nullptr;  ///< on the device: what a one of A counts
  const float* b_unit = nullptr;
  bool fast = false;  ///< sums may be kept in fewer bits than fp32 for a while
};

/// C (m, n) = A (m, k) B (k, n), or C += with `accumulate`. A and B are `dtype`: fp32, bf16 or fp64. C is
/// row-major with leading dim ldc, of `dtype`, or fp32 for bf16 operands. Sums are fp32 (fp64 for fp64).
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kFloat32;
  Matrix a, b;
  void* c = nullptr;
  int64_t ldc = 0;
  DType c_dtype = DType::kFloat32;
  bool accumulate = false;
  Fp8Factors fp8{};  ///< with them, `dtype` is bf16, A is not transposed and B is
};

/// On the calling thread; for use inside tasks.
void gemm_tile(const Gemm& gemm);

/// Over the stream's threads, in tiles of C. `done(row_begin, row_end, column_begin, column_end)` is called
/// on the tile's thread as soon as the tile is written and while it is still in the cache: the place for bias
/// and activation.
using TileDone = FunctionRef<void(int64_t, int64_t, int64_t, int64_t)>;
void gemm(const Gemm& gemm, const Stream& stream);
void gemm(const Gemm& gemm, const Stream& stream, TileDone done);

enum class MathLibrary : uint8_t { kOwn, kOpenBlas, kOneDnn };
std::string_view name(MathLibrary library);
/// "oneDNN 2.6.3", "OpenBLAS 0.3.21", "own loops".
std::string math_library_version(MathLibrary library);
/// Whether this build has it.
bool has_math_library(MathLibrary library);
/// The best that this build has, or what the environment variable TUTTI_CPU_MATH (onednn, openblas, own)
/// says; throws Error if that is not built in.
MathLibrary math_library();
/// Changes it; for tests. Throws Error if this build does not have it.
void set_math_library(MathLibrary library);

}  // namespace tutti::cpu
