#include "core/cuda/allocator.h"

#include "core/cuda/device.h"
#include "core/cuda/runtime.h"

#include <bit>
#include <cstdlib>
#include <string_view>

namespace tutti::cuda {
namespace {

enum class Kind { kDevice, kPinned };

class CudaDriver final : public BlockCache::Driver {
 public:
  CudaDriver(int device, Kind kind) : device_(device), kind_(kind) {}

  std::byte* allocate(int64_t bytes) override {
    const UseDevice use(device_);
    void* memory = nullptr;
    const auto size = static_cast<size_t>(bytes);
    const bool on_device = kind_ == Kind::kDevice;
    const cudaError_t status =
        on_device ? cudaMalloc(&memory, size) : cudaHostAlloc(&memory, size, cudaHostAllocDefault);
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();
      return nullptr;
    }
    check(status, on_device ? "cudaMalloc" : "cudaHostAlloc");
    return static_cast<std::byte*>(memory);
  }

  void release(std::byte* memory) noexcept override {
    // Both calls wait for all work on the device.
    (void)(kind_ == Kind::kDevice ? cudaFree(memory) : cudaFreeHost(memory));
  }

  BlockCache::EventId record(BlockCache::StreamId stream) override {
    const UseDevice use(device_);
    cudaEvent_t event = nullptr;
    if (spare_.empty()) {
      check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    } else {
      event = spare_.back();
      spare_.pop_back();
    }
    const cudaError_t status = cudaEventRecord(event, std::bit_cast<cudaStream_t>(stream));
    if (status != cudaSuccess) spare_.push_back(event);
    check(status, "cudaEventRecord");
    return std::bit_cast<BlockCache::EventId>(event);
  }

  bool reached(BlockCache::EventId event) override {
    const UseDevice use(device_);
    const cudaError_t status = cudaEventQuery(std::bit_cast<cudaEvent_t>(event));
    if (status == cudaErrorNotReady) {
      (void)cudaGetLastError();
      return false;
    }
    check(status, "cudaEventQuery");
    return true;
  }

  void wait(BlockCache::EventId event) override {
    const UseDevice use(device_);
    check(cudaEventSynchronize(std::bit_cast<cudaEvent_t>(event)), "cudaEventSynchronize");
  }

  void forget(BlockCache::EventId event) noexcept override {
    try {
      spare_.push_back(std::bit_cast<cudaEvent_t>(event));
    } catch (...) {
      (void)cudaEventDestroy(std::bit_cast<cudaEvent_t>(event));
    }
  }

 private:
  int device_;
  Kind kind_;
  std::vector<cudaEvent_t> spare_;  // guarded by the cache's mutex, which is locked in all calls
};

struct Memory {
  Memory(int device, Kind kind)
      : driver(device, kind),
        cache(fmt::format("{}cuda:{}", kind == Kind::kPinned ? "pinned memory for " : "", device), driver,
              caching()) {}
  /// For compute-sanitizer and the like, which know the driver's allocations only.
  static BlockCache::Caching caching() {
    const char* const chosen = std::getenv("TUTTI_MEMORY_CACHE");
    return chosen != nullptr && std::string_view(chosen) == "off" ? BlockCache::Caching::kOff
                                                                  : BlockCache::Caching::kOn;
  }
  CudaDriver driver;
  BlockCache cache;
};

BlockCache& memory_of(int device, Kind kind) {
  static auto* const mutex = new std::mutex;
  static auto* const memories = new std::map<std::pair<int, Kind>, std::unique_ptr<Memory>>;
  const std::scoped_lock lock(*mutex);
  auto& memory = (*memories)[{device, kind}];
  if (memory == nullptr) memory = std::make_unique<Memory>(device, kind);
  return memory->cache;
}

}  // namespace

BlockCache& device_memory(int device) {
  return memory_of(device, Kind::kDevice);
}

BlockCache& pinned_memory(int device) {
  return memory_of(device, Kind::kPinned);
}

MemoryStats memory_stats(int device) {
  return device_memory(device).stats();
}

void reset_peak_memory(int device) {
  device_memory(device).reset_peak();
}

std::string memory_report(int device) {
  return device_memory(device).report();
}

void release_cached_memory(int device) {
  device_memory(device).release_cached();
}

}  // namespace tutti::cuda
