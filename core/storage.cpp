// The caching CPU allocator. Each training step requests the same sizes; returning pages to the system
// between steps costs a page fault per 4 KiB, which is a tenth of a small step.
#include <tutti/core/memory/owner.h>
#include <tutti/core/tensor.h>
#include "core/cuda/allocator.h"
#include "core/cuda/config.h"
#include "core/cuda/device.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace tutti {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;

int64_t rounded(int64_t bytes) {
  // Rounding adds at most an eighth, so that nearly equal sizes share blocks.
  int64_t unit = kAlignment;
  while (unit * 16 < bytes) unit *= 2;
  return std::max<int64_t>(kAlignment, (bytes + unit - 1) / unit * unit);
}

class CpuAllocator {
 public:
  static CpuAllocator& instance() {
    // Never destroyed: tensors with static storage duration may outlive any order of destruction.
    static auto* const allocator = new CpuAllocator;
    return *allocator;
  }

  std::byte* take(int64_t bytes) {
    const int64_t size = rounded(bytes);
    {
      const std::scoped_lock lock(mutex_);
      stats_.live_bytes += size;
      stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
      if (auto found = free_.find(size); found != free_.end()) {
        std::byte* block = found->second.back();
        found->second.pop_back();
        if (found->second.empty()) free_.erase(found);
        stats_.cached_bytes -= size;
        return block;
      }
    }
    const int64_t alignment = size >= kHugePage ? kHugePage : kAlignment;
    void* block = std::aligned_alloc(static_cast<size_t>(alignment),
                                     static_cast<size_t>((size + alignment - 1) / alignment * alignment));
    if (block == nullptr) {
      release();
      block = std::aligned_alloc(static_cast<size_t>(alignment),
                                 static_cast<size_t>((size + alignment - 1) / alignment * alignment));
    }
    if (block == nullptr) {
      const std::scoped_lock lock(mutex_);
      stats_.live_bytes -= size;
      fail("out of memory: {} bytes requested with {} bytes in use by tensors", bytes, stats_.live_bytes);
    }
    // Only a hint: huge pages are not required.
    if (size >= kHugePage) (void)madvise(block, static_cast<size_t>(size), MADV_HUGEPAGE);
    return static_cast<std::byte*>(block);
  }

  void give_back(std::byte* block, int64_t bytes) noexcept {
    const int64_t size = rounded(bytes);
    const std::scoped_lock lock(mutex_);
    stats_.live_bytes -= size;
    try {
      free_[size].push_back(block);
      stats_.cached_bytes += size;
    } catch (const std::bad_alloc&) {
      std::free(block);
    }
  }

  void release() {
    const std::scoped_lock lock(mutex_);
    for (auto& [size, blocks] : free_) {
      for (std::byte* block : blocks) std::free(block);
    }
    free_.clear();
    stats_.cached_bytes = 0;
  }

  MemoryStats stats() {
    const std::scoped_lock lock(mutex_);
    return stats_;
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, std::vector<std::byte*>> free_;
  MemoryStats stats_;
};

// Pinned memory belongs to no stream: the host writes to it immediately, even if work on streams is pending.
// So the use by every stream is recorded.
constexpr BlockCache::StreamId kHost = 0;

// Streams that use one block. Their memory is reserved at the start, so that the first does not move while
// another thread adds one.
[[maybe_unused]] constexpr size_t kMostStreams = 16;

[[maybe_unused]] BlockCache::StreamId stream_id(const Stream& stream) {
  return std::bit_cast<BlockCache::StreamId>(stream.native());
}

/// The cache of the block of CUDA storage.
[[maybe_unused]] BlockCache& cache(const Storage& storage) {
  const int device = storage.allocation_stream()->device().index;
  return storage.pinned() ? cuda::pinned_memory(device) : cuda::device_memory(device);
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, const Stream& stream) {
  require(bytes >= 0, "Storage: negative size {}", bytes);
  std::shared_ptr<Storage> storage(new Storage);
  storage->device_ = stream.device();
  if constexpr (kWithCuda) {
    if (stream.device().type == DeviceType::kCuda) {
      storage->streams_.reserve(kMostStreams);
      storage->streams_.push_back(stream);
      storage->block_ =
          cuda::device_memory(stream.device().index).take(bytes, stream_id(stream), MemoryOwner::current());
      storage->data_ = BlockCache::data(*storage->block_);
      storage->bytes_ = bytes;
      return storage;
    }
  }
  storage->data_ = CpuAllocator::instance().take(bytes);
  storage->bytes_ = bytes;
  return storage;
}

std::shared_ptr<Storage> Storage::allocate_pinned(int64_t bytes, const Stream& stream) {
  require(stream.device().type == DeviceType::kCuda, "Storage: pinned memory is for CUDA streams, not {}",
          name(stream.device()));
  std::shared_ptr<Storage> storage(new Storage);
  if constexpr (kWithCuda) {
    storage->streams_.reserve(kMostStreams);
    storage->streams_.push_back(stream);
    storage->block_ = cuda::pinned_memory(stream.device().index).take(bytes, kHost, MemoryOwner::current());
    storage->data_ = BlockCache::data(*storage->block_);
    storage->bytes_ = bytes;
  }
  return storage;
}

void Storage::record_use(const Stream& stream) {
  if constexpr (kWithCuda) {
    if (block_ == nullptr || stream.device().type != DeviceType::kCuda) return;
    cache(*this).record_use(*block_, stream_id(stream));
    if (stream == streams_.front()) return;
    // Threads enqueue work on one storage on separate streams: gradients are sent while backward continues.
    static std::mutex mutex;
    const std::scoped_lock lock(mutex);
    if (std::find(streams_.begin(), streams_.end(), stream) != streams_.end()) return;
    require(streams_.size() < kMostStreams, "memory used by more than {} streams", kMostStreams);
    streams_.push_back(stream);
  }
}

std::shared_ptr<Storage> Storage::borrow(void* data, int64_t bytes, std::shared_ptr<void> owner) {
  require(owner != nullptr, "Storage::borrow: borrowed memory needs an owner");
  std::shared_ptr<Storage> storage(new Storage);
  storage->data_ = static_cast<std::byte*>(data);
  storage->bytes_ = bytes;
  storage->owner_ = std::move(owner);
  return storage;
}

Storage::~Storage() {
  if constexpr (kWithCuda) {
    if (block_ != nullptr) {
      cache(*this).give_back(*block_);
      return;
    }
  }
  if (data_ != nullptr && owner_ == nullptr) CpuAllocator::instance().give_back(data_, bytes_);
}

MemoryStats cpu_memory_stats() {
  return CpuAllocator::instance().stats();
}

MemoryStats memory_stats(const Device& device) {
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) return cuda::memory_stats(device.index);
  }
  return cpu_memory_stats();
}

void release_cached_cpu_memory() {
  CpuAllocator::instance().release();
}

}  // namespace tutti
