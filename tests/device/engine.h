#pragma once

#include "cuda_runtime.h"
#include "tests/device/grid.h"
#include "tests/device/race.h"
#include "tests/device/settings.h"

#include <chrono>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <variant>
#include <vector>

// Streams, events and graphs: work that is submitted is run later, by a thread of its own, which draws the
// order of what may run in any order.
namespace software_cuda {

/// A point of a stream that an event stands for.
struct Mark {
  bool reached = false;
  race::Clock clock;  // of the stream there
  std::chrono::steady_clock::time_point when;
};
using MarkPtr = std::shared_ptr<Mark>;

struct Call {
  std::string what;
  std::function<void()> body;
};
/// Work that may have to wait for other processes. `begin` is called when it is submitted, or its graph
/// launched, and returns what is called until it returns true.
struct Polled {
  struct Range {
    const void* memory;
    size_t bytes;
    race::Kind kind;
  };
  std::string what;
  std::vector<Range> ranges;  ///< that it reads or writes
  std::function<std::function<bool()>()> begin;
  std::function<bool()> advance;
};
struct Reach {
  MarkPtr mark;
};
struct Await {
  MarkPtr mark;
};
using Work = std::variant<Kernel, Call, Polled, Reach, Await>;

struct Node {
  Work work;
  std::vector<size_t> after;  ///< nodes that come before it
  uint32_t timeline = 0;      ///< one for nodes of which each comes before the next
};
using Nodes = std::shared_ptr<const std::vector<Node>>;

/// Work of a graph that is being captured.
struct Capture {
  std::vector<Node> nodes;
  CUstream_st* origin = nullptr;
  std::set<CUstream_st*> streams;
  bool invalid = false;
};

struct Replay {
  std::vector<Node> nodes;
  std::vector<bool> done;
  std::vector<race::Clock> clocks;  // after each node
};

struct Item {
  std::variant<Work, Replay> what;
  std::shared_ptr<const race::Clock> before;  // what the host had waited for when it submitted this
};

}  // namespace software_cuda

struct CUevent_st {
  software_cuda::MarkPtr mark;  // null: never recorded
  bool timed = true;
  // Recorded in a capture: the node, and which capture.
  std::weak_ptr<software_cuda::Capture> capture;
  std::vector<size_t> after;
  bool captured = false;
};

struct CUstream_st {
  int device = 0;
  uint32_t timeline = 0;
  software_cuda::race::Clock clock;
  std::deque<software_cuda::Item> queue;
  std::shared_ptr<software_cuda::Capture> capture;
  std::vector<size_t> tail;  // nodes of the capture that the next one comes after
};

struct CUgraph_st {
  software_cuda::Nodes nodes;
};

struct CUgraphExec_st {
  software_cuda::Nodes nodes;
};

namespace software_cuda {

/// All that the thread of the devices shares with callers of the API.
struct Engine {
  std::mutex mutex;
  std::condition_variable submitted;
  std::condition_variable progressed;
  std::set<CUstream_st*> streams;
  cudaError_t error = cudaSuccess;  // once there is one, all calls return it
  bool started = false;
  bool running = false;  // work of a stream, without the mutex
  Random random{settings().seed};
  std::shared_ptr<const race::Clock> host = std::make_shared<race::Clock>();

  /// The host has seen that what comes before `clock` is complete.
  void observe(const race::Clock& clock) {
    race::Clock all = *host;
    race::join(all, clock);
    if (all != *host) host = std::make_shared<race::Clock>(std::move(all));
  }
  void enqueue(CUstream_st& stream, std::variant<Work, Replay> what) {
    stream.queue.push_back({std::move(what), host});
    submitted.notify_one();
  }
};

Engine& engine();
/// Starts its thread, the first time. Called with its mutex locked, as those below.
void start(Engine& e);
bool known(Engine& e, cudaStream_t stream);
/// The error that makes a call fail that cannot be part of a capture; it ends the capture.
cudaError_t forbidden(CUstream_st* stream);
void begin(Work& work);
/// Waits until `done`, or an error of the device, which it returns once nothing runs any more: the caller may
/// free what the work used.
cudaError_t wait_for(std::unique_lock<std::mutex>& lock, const std::function<bool()>& done);

/// Remembers an error of the calling thread for cudaGetLastError(). Returns it.
cudaError_t result(cudaError_t error);
/// The device that the calling thread has set.
int current_device();

/// Work for a stream, or for the graph that captures it.
cudaError_t submit(cudaStream_t stream, Work work);

/// Waits until a stream, or all of them (null), have no work. Returns the error of the device.
cudaError_t synchronize(cudaStream_t stream);

}  // namespace software_cuda
