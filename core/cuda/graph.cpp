#include "core/cuda/graph.h"

#include "core/cuda/allocator.h"
#include "core/cuda/runtime.h"
#include "core/memory/capture.h"

#include <utility>

namespace tutti::cuda {
namespace {

thread_local const uint64_t* step_counter = nullptr;

struct GraphFree {
  void operator()(cudaGraph_t graph) const noexcept { (void)cudaGraphDestroy(graph); }
};
using OwnedGraph = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, GraphFree>;

void forget(int device, MemoryCapture::Id memory) {
  MemoryCapture::forget(device_memory(device), memory);
  MemoryCapture::forget(pinned_memory(device), memory);
}

/// Captures `work`. Ends the capture even if `work` throws.
OwnedGraph capture_work(const Stream& stream, MemoryCapture::Id memory, FunctionRef<void()> work) {
  const MemoryCapture capturing(memory);
  // In relaxed mode this thread may allocate memory and query events of other work during the capture, and
  // calls of other threads are not restricted.
  check(cudaStreamBeginCapture(native(stream), cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
  cudaGraph_t graph = nullptr;
  try {
    work();
  } catch (...) {
    (void)cudaStreamEndCapture(native(stream), &graph);
    if (graph != nullptr) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(native(stream), &graph), "cudaStreamEndCapture");
  return OwnedGraph(graph);
}

}  // namespace

struct Graph::State {
  explicit State(const Stream& s) : stream(s) {}
  ~State() {
    if (executable != nullptr) {
      (void)cudaStreamSynchronize(native(stream));
      (void)cudaGraphExecDestroy(executable);
    }
    forget(stream.device().index, memory);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  Stream stream;
  MemoryCapture::Id memory = MemoryCapture::fresh();
  cudaGraphExec_t executable = nullptr;
};

Graph::Graph(std::unique_ptr<State> state) : state_(std::move(state)) {}
Graph::~Graph() = default;

std::unique_ptr<Graph> Graph::capture(const Stream& stream, FunctionRef<void()> work) {
  const UseDevice use(stream.device().index);
  auto state = std::make_unique<State>(stream);
  const OwnedGraph graph = capture_work(stream, state->memory, work);
  check(cudaGraphInstantiate(&state->executable, graph.get(), 0), "cudaGraphInstantiate");
  check(cudaGraphUpload(state->executable, native(stream)), "cudaGraphUpload");
  return std::unique_ptr<Graph>(new Graph(std::move(state)));
}

void Graph::launch() {
  const UseDevice use(state_->stream.device().index);
  check(cudaGraphLaunch(state_->executable, native(state_->stream)), "cudaGraphLaunch");
}

UseStepCounter::UseStepCounter(const uint64_t* counter) noexcept
    : before_(std::exchange(step_counter, counter)) {}

UseStepCounter::~UseStepCounter() {
  step_counter = before_;
}

const uint64_t* UseStepCounter::current() noexcept {
  return step_counter;
}

}  // namespace tutti::cuda
