#pragma once

// Included only where TUTTI_WITH_ONEDNN is defined.
#include <oneapi/dnnl/dnnl.hpp>

#include <tutti/core/dtype.h>

#include <cstddef>
#include <string>

namespace tutti::cpu {

dnnl::engine& onednn_engine();
/// The calling thread's stream; sets the thread to single-threaded oneDNN on first use.
dnnl::stream& onednn_stream();

/// fp32 or bf16.
dnnl::memory::data_type onednn_dtype(DType dtype);

// Primitives that a thread keeps, for each kind: sequences of ragged shapes must not grow its cache without
// end.
inline constexpr size_t kCachedPrimitives = 1024;

/// What a status of oneDNN means, "out of memory" with how much there is.
std::string error_text(dnnl_status_t status);

}  // namespace tutti::cpu
