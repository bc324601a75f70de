#pragma once

// Included only where TUTTI_WITH_ONEDNN is defined.
#include <oneapi/dnnl/dnnl.hpp>

namespace tutti::cpu {

dnnl::engine& onednn_engine();
/// The calling thread's stream; sets the thread to single-threaded oneDNN on first use.
dnnl::stream& onednn_stream();

}  // namespace tutti::cpu
