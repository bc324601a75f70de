#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>
#include "core/affinity.h"
#include "core/start_thread.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace tutti {
namespace {

// Spins of a worker before it sleeps: about 20 us, longer than the gap between two kernels of a step.
constexpr int kSpins = 4000;

thread_local bool inside_task = false;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::vector<int> cores;
  std::atomic<uint64_t> generation{0};  // the value has no meaning; a change wakes the workers
  std::atomic<bool> stop{false};
  std::atomic<int64_t> next{0};
  std::atomic<int> running{0};
  int64_t tasks = 0;
  FunctionRef<void(int64_t)>* task = nullptr;
  std::mutex error_mutex;
  std::exception_ptr error;

  void drain() {
    inside_task = true;
    for (int64_t i = next.fetch_add(1, std::memory_order_relaxed); i < tasks;
         i = next.fetch_add(1, std::memory_order_relaxed)) {
      try {
        (*task)(i);
      } catch (...) {
        const std::scoped_lock lock(error_mutex);
        if (!error) error = std::current_exception();
      }
    }
    inside_task = false;
  }

  void start_workers(int threads) {
    workers.reserve(static_cast<size_t>(threads - 1));
    for (int i = 1; i < threads; ++i) {
      workers.push_back(start_thread("a thread pool", [this] { work(); }));
      if (!cores.empty()) bind_thread(workers.back().native_handle(), cores[static_cast<size_t>(i)]);
    }
  }

  void stop_workers() {
    stop.store(true, std::memory_order_relaxed);
    generation.fetch_add(1, std::memory_order_release);
    generation.notify_all();
    for (auto& worker : workers) worker.join();
  }

  void work() {
    uint64_t seen = 0;
    while (true) {
      int spins = 0;
      while (generation.load(std::memory_order_acquire) == seen) {
        if (++spins < kSpins)
          pause_cpu();
        else
          generation.wait(seen, std::memory_order_acquire);
      }
      ++seen;
      if (stop.load(std::memory_order_relaxed)) return;
      drain();
      if (running.fetch_sub(1, std::memory_order_acq_rel) == 1) running.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads, std::vector<int> cores) : state_(std::make_unique<State>()) {
  require(threads >= 1, "thread pool: needs at least one thread, got {}", threads);
  require(cores.empty() || cores.size() >= static_cast<size_t>(threads),
          "thread pool: {} cores for {} threads", cores.size(), threads);
  state_->cores = std::move(cores);
  try {
    state_->start_workers(threads);
  } catch (...) {  // started threads must not outlive the pool
    state_->stop_workers();
    throw;
  }
}

ThreadPool::~ThreadPool() {
  state_->stop_workers();
}

int ThreadPool::threads() const noexcept {
  return static_cast<int>(state_->workers.size()) + 1;
}

void ThreadPool::bind_caller() {
  if (!state_->cores.empty()) bind_thread(pthread_self(), state_->cores[0]);
}

void ThreadPool::parallel_for(int64_t tasks, FunctionRef<void(int64_t)> task) {
  if (tasks <= 0) return;
  if (tasks == 1 || inside_task || state_->workers.empty()) {
    for (int64_t i = 0; i < tasks; ++i) task(i);
    return;
  }
  State& s = *state_;
  s.tasks = tasks;
  s.task = &task;
  s.next.store(0, std::memory_order_relaxed);
  s.running.store(static_cast<int>(s.workers.size()), std::memory_order_relaxed);
  s.generation.fetch_add(1, std::memory_order_release);
  s.generation.notify_all();
  s.drain();
  int spins = 0;
  for (int left = s.running.load(std::memory_order_acquire); left != 0;
       left = s.running.load(std::memory_order_acquire)) {
    if (++spins < kSpins)
      pause_cpu();
    else
      s.running.wait(left, std::memory_order_acquire);
  }
  if (s.error) std::rethrow_exception(std::exchange(s.error, nullptr));
}

void ThreadPool::parallel_ranges(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t)> task) {
  require(grain >= 1, "thread pool: grain must be positive, got {}", grain);
  parallel_for((n + grain - 1) / grain, [&](int64_t i) { task(i * grain, std::min(n, (i + 1) * grain)); });
}

std::vector<int> usable_core_list() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int i = 0; i < CPU_SETSIZE; ++i) {
      if (CPU_ISSET(static_cast<size_t>(i), &set)) cores.push_back(i);
    }
  }
  if (cores.empty()) cores.push_back(0);
  return cores;
}

int usable_cores() {
  return static_cast<int>(usable_core_list().size());
}

}  // namespace tutti
