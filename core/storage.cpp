// The caching CPU allocator. A training step asks for the same sizes again and again; giving pages back to
// the system in between costs a page fault for each 4 KiB, which is a tenth of a small step.
#include <tutti/core/tensor.h>

#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>

namespace tutti {
namespace {

constexpr int64_t kAlignment = 64;
constexpr int64_t kHugePage = int64_t{2} << 20;

int64_t rounded(int64_t bytes) {
  // At most an eighth is lost to rounding, so that nearly equal sizes share blocks.
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
      fail("out of memory: {} bytes asked for with {} bytes in use by tensors", bytes, stats_.live_bytes);
    }
    // A hint only: without huge pages everything works as before.
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

}  // namespace

std::shared_ptr<Storage> Storage::allocate(int64_t bytes, const Stream& stream) {
  require(bytes >= 0, "Storage: negative size {}", bytes);
  require(stream.device().type == DeviceType::kCpu, "Storage: no allocator for device {}",
          name(stream.device()));
  std::shared_ptr<Storage> storage(new Storage);
  storage->device_ = stream.device();
  storage->data_ = CpuAllocator::instance().take(bytes);
  storage->bytes_ = bytes;
  return storage;
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
  if (data_ != nullptr && owner_ == nullptr) CpuAllocator::instance().give_back(data_, bytes_);
}

MemoryStats cpu_memory_stats() {
  return CpuAllocator::instance().stats();
}

void release_cached_cpu_memory() {
  CpuAllocator::instance().release();
}

}  // namespace tutti
