#pragma once

// Included only where TUTTI_WITH_ONEDNN is defined.
#include <oneapi/dnnl/dnnl.hpp>

#include <string>

namespace tutti::cpu {

dnnl::engine& onednn_engine();
/// The calling thread's stream; sets the thread to single-threaded oneDNN on first use.
dnnl::stream& onednn_stream();

/// What a status of oneDNN means, "out of memory" with how much there is.
std::string error_text(dnnl_status_t status);

}  // namespace tutti::cpu
