#include "core/affinity.h"
#include <tutti/core/error.h>
#include <tutti/core/thread_pool.h>

#include <pthread.h>
#include <sched.h>

namespace tutti {
namespace {

/// The CPUs of the first caller, before any thread is bound: bind_thread calls this first.
const cpu_set_t& first_mask() {
  static const cpu_set_t mask = [] {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) CPU_ZERO(&set);
    return set;
  }();
  return mask;
}

thread_local bool caller_is_bound = false;

}  // namespace

void bind_thread(std::thread::native_handle_type thread, int core) {
  (void)first_mask();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(core), &set);
  const int rc = pthread_setaffinity_np(thread, sizeof set, &set);
  require(rc == 0, "thread pool: cannot bind a thread to core {}: {}", core, system_error_text(rc));
  if (pthread_equal(thread, pthread_self()) != 0) caller_is_bound = true;
}

void unbind_caller() noexcept {
  const cpu_set_t& mask = first_mask();
  // If the system refuses, the thread stays on its core, which is only slower.
  if (CPU_COUNT(&mask) > 0) (void)pthread_setaffinity_np(pthread_self(), sizeof mask, &mask);
  caller_is_bound = false;
}

std::vector<int> unbound_core_list() {
  const cpu_set_t& mask = first_mask();
  if (!caller_is_bound || CPU_COUNT(&mask) == 0) return usable_core_list();
  std::vector<int> cores;
  for (int i = 0; i < CPU_SETSIZE; ++i) {
    if (CPU_ISSET(static_cast<size_t>(i), &mask)) cores.push_back(i);
  }
  return cores;
}

}  // namespace tutti
