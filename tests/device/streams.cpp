// Streams, events and graphs of the CUDA runtime API.
#include "tests/device/engine.h"

#include <algorithm>

using namespace software_cuda;

namespace {

/// Each node continues the timeline of one of those before it, unless another does.
void give_timelines(std::vector<Node>& nodes) {
  std::vector<bool> continued(nodes.size());
  for (Node& node : nodes) {
    const auto before =
        std::find_if(node.after.begin(), node.after.end(), [&](size_t i) { return !continued[i]; });
    if (before != node.after.end()) continued[*before] = true;
    node.timeline = before == node.after.end() ? race::new_timeline() : nodes[*before].timeline;
  }
}

}  // namespace

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  start(e);
  *stream = new CUstream_st{.device = current_device(), .timeline = race::new_timeline()};
  e.streams.insert(*stream);
  return result(e.error);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const cudaError_t error = synchronize(stream);
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (e.streams.erase(stream) == 1) delete stream;
  return error;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return stream == nullptr ? result(cudaErrorInvalidResourceHandle) : synchronize(stream);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  if (event->captured) {
    const auto capture = event->capture.lock();
    if (capture == nullptr) return result(cudaErrorCapturedEvent);
    if (stream->capture == nullptr) {  // the stream joins the capture
      stream->capture = capture;
      stream->tail.clear();
      capture->streams.insert(stream);
    } else if (stream->capture != capture) {
      return result(cudaErrorStreamCaptureIsolation);
    }
    stream->tail.insert(stream->tail.end(), event->after.begin(), event->after.end());
    return cudaSuccess;
  }
  if (stream->capture != nullptr) {
    // Work outside the capture cannot be waited for in it.
    stream->capture->invalid = true;
    return result(cudaErrorStreamCaptureIsolation);
  }
  if (event->mark == nullptr) return cudaSuccess;
  e.enqueue(*stream, Work{Await{event->mark}});
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  *status = stream->capture == nullptr ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return result(cudaErrorInvalidValue);
  stream->capture = std::make_shared<Capture>();
  stream->capture->origin = stream;
  stream->capture->streams = {stream};
  stream->tail.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture == nullptr || stream->capture->origin != stream) return result(cudaErrorInvalidValue);
  const std::shared_ptr<Capture> capture = stream->capture;
  // All nodes must come before the end of the origin.
  std::vector<bool> joined(capture->nodes.size());
  std::vector<size_t> open = stream->tail;
  while (!open.empty()) {
    const size_t node = open.back();
    open.pop_back();
    if (joined[node]) continue;
    joined[node] = true;
    open.insert(open.end(), capture->nodes[node].after.begin(), capture->nodes[node].after.end());
  }
  for (CUstream_st* const part : capture->streams) {
    part->capture = nullptr;
    part->tail.clear();
  }
  if (capture->invalid) return result(cudaErrorStreamCaptureInvalidated);
  if (std::find(joined.begin(), joined.end(), false) != joined.end())
    return result(cudaErrorStreamCaptureUnjoined);
  give_timelines(capture->nodes);
  *graph = new CUgraph_st{std::make_shared<const std::vector<Node>>(std::move(capture->nodes))};
  return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st{.timed = (flags & cudaEventDisableTiming) == 0};
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (e.error != cudaSuccess) return result(e.error);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) {
    event->captured = true;
    event->capture = stream->capture;
    event->after = stream->tail;
    event->mark = nullptr;
    return cudaSuccess;
  }
  event->captured = false;
  event->mark = std::make_shared<Mark>();
  e.enqueue(*stream, Work{Reach{event->mark}});
  return cudaSuccess;
}

cudaError_t cudaEventQuery(cudaEvent_t event) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (e.error != cudaSuccess) return result(e.error);
  if (event->captured) return result(cudaErrorCapturedEvent);
  if (event->mark == nullptr) return cudaSuccess;
  if (!event->mark->reached) return result(cudaErrorNotReady);
  e.observe(event->mark->clock);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Engine& e = engine();
  std::unique_lock lock(e.mutex);
  if (event->captured) return result(cudaErrorCapturedEvent);
  if (event->mark == nullptr) return result(e.error);
  const MarkPtr mark = event->mark;
  const cudaError_t error = wait_for(lock, [&] { return mark->reached; });
  e.observe(mark->clock);
  return error;
}

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (!start->timed || !end->timed || start->mark == nullptr || end->mark == nullptr)
    return result(cudaErrorInvalidResourceHandle);
  if (!start->mark->reached || !end->mark->reached) return result(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->mark->when - start->mark->when).count();
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) {
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Engine& e = engine();
  const std::scoped_lock lock(e.mutex);
  if (e.error != cudaSuccess) return result(e.error);
  if (!known(e, stream)) return result(cudaErrorInvalidResourceHandle);
  if (stream->capture != nullptr) return forbidden(stream);
  const size_t count = executable->nodes->size();
  Replay replay{*executable->nodes, std::vector<bool>(count), std::vector<race::Clock>(count)};
  for (Node& node : replay.nodes) begin(node.work);
  e.enqueue(*stream, std::move(replay));
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
