#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/stream.h>

#include <cstdint>
#include <memory>

// CUDA graphs. Only in builds with CUDA; needs no CUDA header.
namespace tutti::cuda {

/// Work that is captured once and can be replayed any number of times, each with one call.
///
/// Memory that the work allocates during the capture belongs to the graph, so that it has the same addresses
/// in each replay. Other memory that the work uses must not be freed or moved before the last replay.
class Graph {
 public:
  /// Calls `work`, which submits to `stream`, and to other streams that first wait for an event of `stream`
  /// and that `stream` waits for at the end. Nothing runs yet. Throws what `work` throws, and Error if part
  /// of it cannot be captured, such as a synchronization of the host; the capture is then ended.
  static std::unique_ptr<Graph> capture(const Stream& stream, FunctionRef<void()> work);
  /// Waits for the last replay.
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Replays the work on the stream that it was captured from.
  void launch();

 private:
  struct State;
  explicit Graph(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// During its lifetime, kernels launched by this thread that depend on the number of the step read it from
/// `counter`, a uint64 in device memory, instead of receiving it by value.
class UseStepCounter {
 public:
  explicit UseStepCounter(const uint64_t* counter) noexcept;
  ~UseStepCounter();
  UseStepCounter(const UseStepCounter&) = delete;
  UseStepCounter& operator=(const UseStepCounter&) = delete;

  /// The counter of this thread's innermost UseStepCounter; null if there is none.
  static const uint64_t* current() noexcept;

 private:
  const uint64_t* before_;
};

}  // namespace tutti::cuda
