#pragma once

#include <tutti/core/function_ref.h>

#include <cstdint>
#include <memory>
#include <vector>

namespace tutti {

/// The threads that compute for one rank. Ranks that share a process each own one.
///
/// Work is cut into tasks by the problem's shape alone, never by the number of threads, so that a result
/// does not depend on how many threads computed it.
class ThreadPool {
 public:
  /// `threads` >= 1 counts the caller of parallel_for. With `cores` (logical CPU numbers, one a thread)
  /// worker i is bound to cores[i]; the caller's thread is bound to cores[0] by bind_caller(), not by the
  /// constructor.
  explicit ThreadPool(int threads, std::vector<int> cores = {});
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const noexcept;

  /// Binds the calling thread to cores[0]; does nothing without `cores`.
  void bind_caller();

  /// Calls `task(i)` for i in [0, tasks), each once, on any thread, and returns when all are done.
  /// The first exception of a task is rethrown here after the others have ended. Calls from inside a task run
  /// serially. Not to be called by two threads at once.
  void parallel_for(int64_t tasks, FunctionRef<void(int64_t)> task);

  /// Cuts [0, n) into ranges of `grain` (the last one shorter) and calls `task(begin, end)` for each.
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
