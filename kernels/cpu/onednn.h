#pragma once

// Include only if TUTTI_WITH_ONEDNN is defined.
#include <oneapi/dnnl/dnnl.hpp>

#include <tutti/core/dtype.h>

#include <cstddef>
#include <string>

namespace tutti::cpu {

dnnl::engine& onednn_engine();
/// The calling thread's stream; on first use, makes oneDNN single-threaded on this thread.
dnnl::stream& onednn_stream();

/// fp32 or bf16.
dnnl::memory::data_type onednn_dtype(DType dtype);

// Maximum number of cached primitives per thread and kind, so that caches stay bounded with varying shapes.
inline constexpr size_t kCachedPrimitives = 1024;

/// The text of an oneDNN status; for out of memory, with the amount of memory.
std::string error_text(dnnl_status_t status);

}  // namespace tutti::cpu
