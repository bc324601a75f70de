#pragma once

#include <tutti/core/stream.h>
#include <tutti/core/tensor.h>
#include "kernels/plan/gemm.h"

#include <cstdint>
#include <string_view>

// The one door to the CPU's matrix library: oneDNN, else OpenBLAS, else own loops. All of them are called
// with one thread; parallelism is ours, over tiles that depend on shapes alone, so that results do not depend
// on the number of threads.
namespace tutti::cpu {

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
