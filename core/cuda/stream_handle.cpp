#include "core/cuda/stream_handle.h"

#include "core/cuda/device.h"
#include "core/cuda/runtime.h"

namespace tutti::cuda {
namespace {

cudaStream_t as_stream(const Handle& handle) {
  return static_cast<cudaStream_t>(handle.get());
}

cudaEvent_t as_event(const Handle& handle) {
  return static_cast<cudaEvent_t>(handle.get());
}

}  // namespace

Handle make_stream(int device, bool high_priority) {
  require_usable(device);
  const UseDevice use(device);
  int low = 0;
  int high = 0;
  check(cudaDeviceGetStreamPriorityRange(&low, &high), "cudaDeviceGetStreamPriorityRange");
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, high_priority ? high : low),
        "cudaStreamCreateWithPriority");
  return {stream, [](cudaStream_t s) {
            // The allocator may reuse this stream's cached blocks for a new stream with the same address.
            (void)cudaStreamSynchronize(s);
            (void)cudaStreamDestroy(s);
          }};
}

Handle record_event(const Handle& stream, int device) {
  const UseDevice use(device);
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  Handle handle(event, [](cudaEvent_t e) { (void)cudaEventDestroy(e); });
  check(cudaEventRecord(event, as_stream(stream)), "cudaEventRecord");
  return handle;
}

void wait_event(const Handle& event, int device) {
  const UseDevice use(device);
  check(cudaEventSynchronize(as_event(event)), "waiting for work (cudaEventSynchronize)");
}

bool event_done(const Handle& event, int device) {
  const UseDevice use(device);
  const cudaError_t status = cudaEventQuery(as_event(event));
  if (status == cudaErrorNotReady) {
    (void)cudaGetLastError();
    return false;
  }
  check(status, "cudaEventQuery");
  return true;
}

void wait_on_stream(const Handle& stream, const Handle& event, int device) {
  const UseDevice use(device);
  check(cudaStreamWaitEvent(as_stream(stream), as_event(event), 0), "cudaStreamWaitEvent");
}

}  // namespace tutti::cuda
