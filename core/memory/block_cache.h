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

/// The bookkeeping of a caching allocator for memory that streams of a device use in their order. It calls no
/// device itself but asks a Driver, so that it runs without one.
///
/// Memory comes from the driver in segments and is cut into blocks. A block that is given back serves the
/// next request of the stream it was made for at once: the order of the stream's work keeps the two uses
/// apart. Where another stream used the block too (record_use), it waits for that stream to get past the
/// moment at which it was given back. All functions may be called from any thread.
class BlockCache {
 public:
  using StreamId = uintptr_t;
  using EventId = uintptr_t;

  /// What the bookkeeping needs of a device.
  class Driver {
   public:
    virtual ~Driver() = default;
    /// Memory aligned to kUnit, or null where there is no more.
    virtual std::byte* allocate(int64_t bytes) = 0;
    /// Only called for memory that no work in flight uses, or where the driver itself waits for such work.
    virtual void release(std::byte* memory) noexcept = 0;
    /// Marks the present end of a stream's work.
    virtual EventId record(StreamId stream) = 0;
    virtual bool reached(EventId event) = 0;
    virtual void wait(EventId event) = 0;
    /// The event is not asked for again.
    virtual void forget(EventId event) noexcept = 0;
  };

  using Block = MemoryBlock;

  static constexpr int64_t kUnit = 512;                       ///< sizes and addresses are multiples of it
  static constexpr int64_t kSmall = int64_t{1} << 20;         ///< up to this, requests share small segments
  static constexpr int64_t kSmallSegment = int64_t{2} << 20;  ///< of which this is the size
  static constexpr int64_t kMedium = int64_t{10} << 20;       ///< up to this, requests share
  static constexpr int64_t kMediumSegment = int64_t{20} << 20;

  /// `what` names the memory in messages ("cuda:0"); `driver` outlives the cache.
  BlockCache(std::string what, Driver& driver);
  /// Gives all segments back to the driver, used ones included.
  ~BlockCache();
  BlockCache(const BlockCache&) = delete;
  BlockCache& operator=(const BlockCache&) = delete;

  /// At least `bytes` of memory for work on `stream`. `owner` names it in reports. When the driver has no
  /// more, cached segments go back to it, then blocks that other streams hold up are waited for. Throws Error
  /// with report() when all that was in vain.
  Block* take(int64_t bytes, StreamId stream, std::string_view owner);
  static std::byte* data(const Block& block) noexcept;
  /// The work that `stream` has been given so far uses the block.
  void record_use(Block& block, StreamId stream);
  /// All work on the block has been given to its streams.
  void give_back(Block& block) noexcept;

  /// Returns segments without a used block to the driver.
  void release_cached();
  [[nodiscard]] MemoryStats stats() const;
  /// Starts a new peak at what is live.
  void reset_peak();
  /// Several lines: what is in use, cached and held up, and the owners of the most memory in use, largest
  /// first.
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
  Block* grow(int64_t size, StreamId stream);
  void split(Block& block, int64_t size);
  void make_free(Block& block);
  void collect(bool wait);
  void release_locked();
  [[nodiscard]] std::string report_locked(size_t owners) const;
  int32_t owner_index(std::string_view owner);

  std::string what_;
  Driver& driver_;
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
