#include "core/affinity.h"
#include <tutti/core/error.h>

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

}  // namespace

void bind_thread(std::thread::native_handle_type thread, int core) {
  (void)first_mask();
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(core), &set);
  const int rc = pthread_setaffinity_np(thread, sizeof set, &set);
  require(rc == 0, "thread pool: cannot bind a thread to core {}: {}", core, system_error_text(rc));
}

void unbind_caller() noexcept {
  const cpu_set_t& mask = first_mask();
  // If the system refuses, the thread stays on its core, which is only slower.
  if (CPU_COUNT(&mask) > 0) (void)pthread_setaffinity_np(pthread_self(), sizeof mask, &mask);
}

}  // namespace tutti
