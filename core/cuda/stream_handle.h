#pragma once

#include <memory>

// Streams and events of CUDA behind opaque pointers, for core/stream.cpp, which has no CUDA headers.
namespace tutti::cuda {

using Handle = std::shared_ptr<void>;  ///< of a cudaStream_t or cudaEvent_t

/// A stream that does not wait for the legacy default stream. Its work is waited for when the last copy goes.
Handle make_stream(int device, bool high_priority);
Handle record_event(const Handle& stream, int device);
void wait_event(const Handle& event, int device);
bool event_done(const Handle& event, int device);
/// Work given to `stream` from now on runs after `event`; the host does not wait.
void wait_on_stream(const Handle& stream, const Handle& event, int device);

}  // namespace tutti::cuda
