#pragma once

#include <tutti/core/stream.h>
#include <tutti/core/tensor.h>
#include "kernels/plan/gemm.h"

#include <cstdint>
#include <string_view>

// All matrix products on the CPU go through this file, by oneDNN, else OpenBLAS, else own loops. Libraries
// are called with one thread. Products are parallel over tiles that depend on shapes alone, so that results
// do not depend on the number of threads.
namespace tutti::cpu {

/// Computes the product on the calling thread; for use inside tasks.
void gemm_tile(const Gemm& gemm);

/// Computes the product on the stream's threads, in tiles of C. Calls `done(row_begin, row_end, column_begin,
/// column_end)` on the thread of a tile after writing it, while it is in the cache, to apply bias and
/// activation.
using TileDone = FunctionRef<void(int64_t, int64_t, int64_t, int64_t)>;
void gemm(const Gemm& gemm, const Stream& stream);
void gemm(const Gemm& gemm, const Stream& stream, TileDone done);

enum class MathLibrary : uint8_t { kOwn, kOpenBlas, kOneDnn };
std::string_view name(MathLibrary library);
/// "oneDNN 2.6.3", "OpenBLAS 0.3.21", "own loops".
std::string math_library_version(MathLibrary library);
/// Whether the library is in this build.
bool has_math_library(MathLibrary library);
/// The library in the environment variable TUTTI_CPU_MATH (onednn, openblas, own), else the first of these in
/// this build. Throws Error if the variable's is not in this build.
MathLibrary math_library();
/// Changes the library, for tests. Throws Error if it is not in this build.
void set_math_library(MathLibrary library);

}  // namespace tutti::cpu
