#include <tutti/core/interruption.h>

#include <atomic>

namespace tutti {
namespace {

using Asked = bool (*)() noexcept;
std::atomic<Asked> asked_to_stop{nullptr};

}  // namespace

Interruptible::Interruptible(Asked asked) noexcept {
  asked_to_stop = asked;
}

Interruptible::~Interruptible() {
  asked_to_stop = nullptr;
}

void interruption_point() {
  const Asked asked = asked_to_stop.load(std::memory_order_relaxed);
  if (asked != nullptr && asked()) throw Interrupted("asked to stop");
}

}  // namespace tutti
