#include "tests/device/fiber.h"

#include "tests/device/sanitizer.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__)
#  include <sanitizer/common_interface_defs.h>
#endif

namespace software_cuda {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kStack = size_t{256} << 10;  // frames are larger
#else
constexpr size_t kStack = size_t{64} << 10;
#endif
constexpr size_t kGuard = 4096;

void start_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* stack,
                  [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake, stack, bytes);
#endif
}

void finish_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** stack,
                   [[maybe_unused]] size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, stack, bytes);
#endif
}

}  // namespace

Fiber::Fiber(std::function<void(Fiber&)> body)
    : body_(std::move(body)),
      memory_(static_cast<std::byte*>(mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
  if (memory_ == MAP_FAILED || mprotect(memory_, kGuard, PROT_NONE) != 0) {
    std::perror("software device: a stack");
    std::abort();
  }
  inside_ = boost::context::detail::make_fcontext(memory_ + kGuard + kStack, kStack, &Fiber::start);
}

Fiber::~Fiber() {
  (void)munmap(memory_, kGuard + kStack);
}

void Fiber::start(boost::context::detail::transfer_t from) {
  auto& self = *static_cast<Fiber*>(from.data);
  finish_switch(nullptr, &self.outer_stack_, &self.outer_bytes_);
  self.outside_ = from.fctx;
  self.body_(self);
  std::abort();
}

void Fiber::enter() {
  start_switch(&fake_outside_, memory_ + kGuard, kStack);
  inside_ = boost::context::detail::jump_fcontext(inside_, this).fctx;
  finish_switch(fake_outside_, nullptr, nullptr);
}

void Fiber::leave() {
  start_switch(&fake_inside_, outer_stack_, outer_bytes_);
  outside_ = boost::context::detail::jump_fcontext(outside_, nullptr).fctx;
  finish_switch(fake_inside_, &outer_stack_, &outer_bytes_);
}

}  // namespace software_cuda
