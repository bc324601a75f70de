#pragma once

#include <memory>

// CUDA streams and events as opaque pointers, for core/stream.cpp, which includes no CUDA headers.
namespace tutti::cuda {

using Handle = std::shared_ptr<void>;  ///< a cudaStream_t or cudaEvent_t

/// A stream that does not wait for the legacy default stream. Destroying its last handle waits for its work.
Handle make_stream(int device, bool high_priority);
Handle record_event(const Handle& stream, int device);
void wait_event(const Handle& event, int device);
bool event_done(const Handle& event, int device);
/// Work submitted to `stream` after this call runs after `event`; the host does not wait.
void wait_on_stream(const Handle& stream, const Handle& event, int device);

}  // namespace tutti::cuda
