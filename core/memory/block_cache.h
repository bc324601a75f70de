#pragma once

#include <tutti/core/memory/memory_stats.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tutti {

struct MemoryBlock;

/// The bookkeeping of a stream-ordered caching allocator. All device calls go through a Driver, so that it
/// can be tested without a device.
///
/// Memory is allocated from the driver in segments and split into blocks. A freed block is reused at once by
/// the next request of its own stream: stream order separates the two uses. If another stream used the block
/// too (record_use), it is reused only after that stream has passed the point at which it was freed. All
/// functions may be called from any thread.
class BlockCache {
 public:
  using StreamId = uintptr_t;
  using EventId = uintptr_t;

  /// Device functions that the bookkeeping needs.
  class Driver {
   public:
    virtual ~Driver() = default;
    /// Memory aligned to kUnit, or null if there is no more.
    virtual std::byte* allocate(int64_t bytes) = 0;
    /// Called only for memory that no work in flight uses, or if the driver itself waits for such work.
    virtual void release(std::byte* memory) noexcept = 0;
    /// Records the current end of a stream's work.
    virtual EventId record(StreamId stream) = 0;
    virtual bool reached(EventId event) = 0;
    virtual void wait(EventId event) = 0;
    /// The event is not queried again.
    virtual void forget(EventId event) noexcept = 0;
  };

  using Block = MemoryBlock;

  /// kOff: each request is an allocation of the driver of exactly its size, which a tool can check accesses
  /// against, and goes back to it after use. Slow.
  enum class Caching { kOn, kOff };

  static constexpr int64_t kUnit = 512;                       ///< sizes and addresses are multiples of it
  static constexpr int64_t kSmall = int64_t{1} << 20;         ///< up to this, requests share small segments
  static constexpr int64_t kSmallSegment = int64_t{2} << 20;  ///< size of a small segment
  static constexpr int64_t kMedium = int64_t{10} << 20;       ///< up to this, requests share
  static constexpr int64_t kMediumSegment = int64_t{20} << 20;

  /// `what` names the memory in messages ("cuda:0"); `driver` outlives the cache.
  BlockCache(std::string what, Driver& driver, Caching caching = Caching::kOn);
  /// Releases all segments to the driver, including used ones.
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /// At least `bytes` of memory for work on `stream`. `owner` names it in reports. If the driver has no more
  /// memory, releases cached segments, then waits for blocks that other streams still use. Throws Error with
  /// report() if none of this helps.
  Block* take(int64_t bytes, StreamId stream, std::string_view owner);
  static std::byte* data(const Block& block) noexcept;
  /// Work submitted to `stream` so far uses the block.
  void record_use(Block& block, StreamId stream);
  /// All work on the block has been submitted to its streams.
  void give_back(Block& block) noexcept;

  /// Releases segments without used blocks to the driver, except those of captures that can be replayed.
  void release_cached();
  [[nodiscard]] MemoryStats stats() const;
  /// Resets the peak to the live bytes.
  void reset_peak();
  /// Several lines: memory in use, cached and waiting for other streams, and the owners of the most memory in
  /// use, largest first.
  [[nodiscard]] std::string report(size_t owners = 10) const;

 private:
  friend MemoryBlock;
  struct BySizeThenAddress {
    bool operator()(const Block* a, const Block* b) const noexcept;
  };
  using Pool = std::set<Block*, BySizeThenAddress>;
  struct PoolKey {
    StreamId stream;
    bool small;
    auto operator<=>(const PoolKey&) const = default;
  };
  struct Held {
    Block* block;
    std::vector<EventId> events;
  };

  Block* find(int64_t size, StreamId stream);
  /// `place` is whose pool, `home` the stream itself.
  Block* grow(int64_t size, StreamId place, StreamId home);
  void split(Block& block, int64_t size);
  void make_free(Block& block);
  /// Returns a segment that is one free block, in no pool, to the driver.
  void release_segment(Block& block);
  /// Records events of the streams that used the block, unless a capture is open.
  void record_users(Held& held);
  void collect(bool wait);
  void release_locked();
  [[nodiscard]] std::string report_locked(size_t owners) const;
  int32_t owner_index(std::string_view owner);

  std::string what_;
  Driver& driver_;
  const bool caches_;
  mutable std::mutex mutex_;
  std::unordered_map<Block*, std::unique_ptr<Block>> blocks_;
  std::map<PoolKey, Pool> free_;
  std::vector<Held> held_;
  MemoryStats stats_;
  int64_t reserved_bytes_ = 0;
  std::vector<std::string> owner_names_;
  std::vector<int64_t> owner_bytes_;
  std::map<std::string, int32_t, std::less<>> owner_indices_;
};

}  // namespace tutti
