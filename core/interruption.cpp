#include <tutti/core/interruption.h>

#include <atomic>

namespace tutti {
namespace {

using StopRequested = bool (*)() noexcept;
std::atomic<StopRequested> stop_requested{nullptr};

}  // namespace

Interruptible::Interruptible(StopRequested query) noexcept {
  stop_requested = query;
}

Interruptible::~Interruptible() {
  stop_requested = nullptr;
}

void interruption_point() {
  const StopRequested query = stop_requested.load(std::memory_order_relaxed);
  if (query != nullptr && query()) throw Interrupted("asked to stop");
}

}  // namespace tutti
