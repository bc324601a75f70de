#pragma once

#include <tutti/core/function_ref.h>
#include <tutti/core/stream.h>

#include <cstdint>
#include <memory>

// Captured work of CUDA streams. Only in builds with CUDA; needs no CUDA header.
namespace tutti::cuda {

/// Work that was captured once and can be given to the device again and again, in one call.
///
/// Memory that the work takes while it is captured belongs to the graph: what its kernels read and write is
/// there at each replay, at the same addresses. What it reads besides must stay where it is.
class Graph {
 public:
  /// Calls `work`, which gives its work to `stream`, and to other streams that wait for events of it and that
  /// it waits for in the end; nothing runs yet. Throws what `work` throws, and Error where something in it
  /// cannot be captured (a wait of the host, say); the streams are then as before.
  static std::unique_ptr<Graph> capture(const Stream& stream, FunctionRef<void()> work);
  /// Waits until the last replay is done.
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Gives the work to the stream that it was captured from.
  void launch();

 private:
  struct State;
  explicit Graph(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// While it lives, kernels of this thread's work that depend on the step's number read it from `counter`, a
/// uint64 in memory of the device, instead of taking it by value.
class UseStepCounter {
 public:
  explicit UseStepCounter(const uint64_t* counter) noexcept;
  ~UseStepCounter();
  UseStepCounter(const UseStepCounter&) = delete;
  UseStepCounter& operator=(const UseStepCounter&) = delete;

  /// Null outside of any.
  static const uint64_t* current() noexcept;

 private:
  const uint64_t* before_;
};

}  // namespace tutti::cuda
