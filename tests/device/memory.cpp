#include "tests/device/memory.h"

#include "tests/device/sanitizer.h"
#include "tests/device/settings.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#if defined(__SANITIZE_ADDRESS__)
#  include <sanitizer/asan_interface.h>
#else
#  define ASAN_POISON_MEMORY_REGION(memory, bytes)
#endif

namespace software_cuda {
namespace {

constexpr size_t kSpan = size_t{1} << 38;  // addresses of one device; they are used once
constexpr size_t kPage = 4096;

struct Allocation {
  size_t bytes;
  int device;  // -1: pinned
};

struct Arena {
  std::byte* begin = nullptr;
  size_t used = 0;  // addresses given out
  size_t in_use = 0;
};

size_t pages(size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

class Memory {
 public:
  static Memory& only() {
    static auto& memory = *new Memory;
    return memory;
  }

  void* allocate(size_t bytes, int device) {
    const std::scoped_lock lock(mutex_);
    const size_t whole = pages(std::max<size_t>(bytes, 1));
    std::byte* memory = nullptr;
    if (device < 0) {
      memory = static_cast<std::byte*>(
          mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
      if (memory == MAP_FAILED) return nullptr;
    } else {
      Arena& arena = arenas_[device];
      if (arena.begin == nullptr && !reserve(arena)) return nullptr;
      // A page that is never accessible lies behind each allocation.
      if (arena.in_use + whole > settings().memory || arena.used + whole + kPage > kSpan) return nullptr;
      memory = arena.begin + arena.used;
      if (mprotect(memory, whole, PROT_READ | PROT_WRITE) != 0) return nullptr;
      arena.used += whole + kPage;
      arena.in_use += whole;
      std::memset(memory, 0xff, whole);  // NaN in all floating dtypes
      ASAN_POISON_MEMORY_REGION(memory + bytes, whole - bytes);
      if (!open_ && mprotect(memory, whole, PROT_NONE) != 0) std::abort();
    }
    allocations_[memory] = {bytes, device};
    return memory;
  }

  bool release(void* memory, bool pinned) {
    const std::scoped_lock lock(mutex_);
    const auto found = allocations_.find(static_cast<std::byte*>(memory));
    if (found == allocations_.end() || (found->second.device < 0) != pinned) return false;
    const size_t whole = pages(std::max<size_t>(found->second.bytes, 1));
    if (pinned) {
      (void)munmap(memory, whole);
    } else {
      arenas_[found->second.device].in_use -= whole;
      // The addresses are not used again.
      (void)madvise(memory, whole, MADV_DONTNEED);
      (void)mprotect(memory, whole, PROT_NONE);
    }
    allocations_.erase(found);
    return true;
  }

  size_t in_use(int device) {
    const std::scoped_lock lock(mutex_);
    return arenas_[device].in_use;
  }

  Place place_of(const void* memory, size_t bytes) {
    const std::scoped_lock lock(mutex_);
    const auto* const at = static_cast<const std::byte*>(memory);
    auto next = allocations_.upper_bound(const_cast<std::byte*>(at));
    if (next != allocations_.begin()) {
      const auto& [begin, allocation] = *--next;
      const auto offset = static_cast<size_t>(at - begin);
      if (offset < allocation.bytes) {
        if (bytes > allocation.bytes - offset) return Place::kOutside;
        return allocation.device < 0 ? Place::kPinned : Place::kDevice;
      }
    }
    return device_of(memory) >= 0 ? Place::kOutside : Place::kPageable;
  }

  int device_of(const void* memory) const noexcept {
    for (int device = 0; device < kMostDevices; ++device) {
      const std::byte* const begin = arenas_[device].begin;
      if (begin != nullptr && memory >= begin && memory < begin + kSpan) return device;
    }
    return -1;
  }

  [[nodiscard]] const std::byte* begin_of(int device) const noexcept { return arenas_[device].begin; }

  void protect(bool open) {
    const std::scoped_lock lock(mutex_);
    if (open_ == open) return;
    open_ = open;
    for (const auto& [begin, allocation] : allocations_) {
      if (allocation.device < 0) continue;
      if (mprotect(begin, pages(std::max<size_t>(allocation.bytes, 1)),
                   open ? PROT_READ | PROT_WRITE : PROT_NONE) != 0)
        std::abort();
    }
  }

  [[nodiscard]] bool open() const noexcept { return open_; }

 private:
  static bool reserve(Arena& arena) {
    void* const memory = mmap(nullptr, kSpan, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return false;
    arena.begin = static_cast<std::byte*>(memory);
    return true;
  }

  std::mutex mutex_;
  std::map<std::byte*, Allocation> allocations_;
  Arena arenas_[kMostDevices];
  std::atomic<bool> open_ = false;
};

}  // namespace

size_t in_use(int device) {
  return Memory::only().in_use(device);
}

void* allocate(size_t bytes, int device) {
  return Memory::only().allocate(bytes, device);
}

bool release(void* memory, bool pinned) {
  return Memory::only().release(memory, pinned);
}

Place place_of(const void* memory, size_t bytes) {
  return Memory::only().place_of(memory, bytes);
}

int device_of(const void* memory) {
  return Memory::only().device_of(memory);
}

const std::byte* device_begin(int device) {
  return Memory::only().begin_of(device);
}

void open_memory() {
  Memory::only().protect(true);
}

void close_memory() {
  Memory::only().protect(false);
}

const char* describe_address(const void* address) noexcept {
  if (Memory::only().device_of(address) < 0) return nullptr;
  return Memory::only().open() ? "memory of a device that is not allocated"
                               : "memory of a device, which the host cannot access";
}

}  // namespace software_cuda
