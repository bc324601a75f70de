#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace tutti {
namespace {

// A worker spins this often before it sleeps: some 20 us, longer than the gap between two kernels of a step.
constexpr int kSpins = 4000;

thread_local bool inside_task = false;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

void bind_thread(pthread_t thread, int core) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(core), &set);
  const int rc = pthread_setaffinity_np(thread, sizeof set, &set);
  require(rc == 0, "thread pool: cannot bind a thread to core {}: {}", core, system_error_text(rc));
}

}  // namespace

struct ThreadPool::State {
  std::vector<std::thread> workers;
  std::vector<int> cores;
  std::atomic<uint64_t> generation{0};  // odd bits do not matter; a change wakes the workers
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
  for (int i = 1; i < threads; ++i) {
    state_->workers.emplace_back([state = state_.get()] { state->work(); });
    if (!state_->cores.empty()) {
      bind_thread(state_->workers.back().native_handle(), state_->cores[static_cast<size_t>(i)]);
    }
  }
}

ThreadPool::~ThreadPool() {
  state_->stop.store(true, std::memory_order_relaxed);
  state_->generation.fetch_add(1, std::memory_order_release);
  state_->generation.notify_all();
  for (auto& worker : state_->workers) worker.join();
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
