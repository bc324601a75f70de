#pragma once

#include <tutti/core/function_ref.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace tutti {

/// The compute threads of one rank. Ranks in one process have one pool each.
///
/// Work is divided into tasks by the problem's shape only, never by the number of threads, so that a result
/// does not depend on the number of threads.
class ThreadPool {
 public:
  /// `threads` >= 1 includes the caller of parallel_for. With `cores` (logical CPU numbers, one per thread)
  /// worker i is bound to cores[i]; the caller's thread is bound to cores[0] by bind_caller(), not by the
  /// constructor.
  explicit ThreadPool(int threads, std::vector<int> cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const noexcept;

  /// Binds the calling thread to cores[0]; does nothing without `cores`.
  void bind_caller();

  /// Calls `task(i)` for i in [0, tasks), each once, on any thread, and returns when all are done. The first
  /// exception of a task is rethrown here after the others have ended. Calls from inside a task run serially.
  /// Must not be called by two threads at the same time.
  void parallel_for(int64_t tasks, FunctionRef<void(int64_t)> task);

  /// Divides [0, n) into ranges of `grain` (the last one may be shorter) and calls `task(begin, end)` for
  /// each.
  void parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> task);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Number of CPUs that this process may run on (its affinity mask, at least 1).
int usable_cores();

/// The logical CPU numbers of this process's affinity mask, ascending.
std::vector<int> usable_core_list();

}  // namespace tutti
