#include "core/memory/block_cache.h"

#include <tutti/core/error.h>
#include "core/memory/capture.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <numeric>
#include <utility>

namespace tutti {

struct MemoryBlock {
  using StreamId = BlockCache::StreamId;
  using EventId = BlockCache::EventId;
  std::byte* data = nullptr;
  int64_t size = 0;
  StreamId stream = 0;            // whose requests the segment serves; in a capture, its capture_stream()
  StreamId home = 0;              // the stream itself
  MemoryCapture::Id capture = 0;  // which the segment belongs to
  bool shared = false;            // used by other streams of that capture too
  MemoryCapture::Id parked = 0;   // freed during this capture, which may use it at each replay
  bool small = false;
  bool used = false;
  int32_t owner = 0;
  std::vector<StreamId> users;      // other streams
  MemoryBlock* previous = nullptr;  // neighbours in the segment
  MemoryBlock* next = nullptr;

  static void forget_capture(BlockCache& cache, MemoryCapture::Id id);
};

namespace {

/// Of this thread.
thread_local MemoryCapture::Id current_capture = 0;

/// Captures that are open in any thread. The mutex is also held while an event is recorded: none begins then.
struct OpenCaptures {
  std::mutex mutex;
  int count = 0;
};
OpenCaptures& open_captures() {
  static OpenCaptures captures;
  return captures;
}

/// The id of `stream` in a capture: a unique odd number. Stream ids are addresses, which are even.
BlockCache::StreamId capture_stream(BlockCache::StreamId stream, MemoryCapture::Id capture) {
  if (capture == 0) return stream;
  static std::mutex mutex;
  static std::map<std::pair<MemoryCapture::Id, BlockCache::StreamId>, BlockCache::StreamId> numbers;
  const std::scoped_lock lock(mutex);
  return numbers.try_emplace({capture, stream}, 2 * numbers.size() + 1).first->second;
}

constexpr double kMiB = 1024.0 * 1024.0;

int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

int64_t segment_bytes(int64_t size) {
  if (size <= BlockCache::kSmall) return BlockCache::kSmallSegment;
  if (size <= BlockCache::kMedium) return BlockCache::kMediumSegment;
  return round_up(size, BlockCache::kSmallSegment);
}

}  // namespace

MemoryCapture::Id MemoryCapture::fresh() noexcept {
  static std::atomic<Id> last = 0;
  return ++last;
}

MemoryCapture::MemoryCapture(Id id) noexcept : before_(std::exchange(current_capture, id)) {
  const std::scoped_lock lock(open_captures().mutex);
  ++open_captures().count;
}

MemoryCapture::~MemoryCapture() {
  current_capture = before_;
  const std::scoped_lock lock(open_captures().mutex);
  --open_captures().count;
}

void MemoryCapture::forget(BlockCache& cache, Id id) {
  MemoryBlock::forget_capture(cache, id);
}

bool BlockCache::BySizeThenAddress::operator()(const Block* a, const Block* b) const noexcept {
  if (a->size != b->size) return a->size < b->size;
  return std::less<>()(a->data, b->data);
}

BlockCache::BlockCache(std::string what, Driver& driver, Caching caching)
    : what_(std::move(what)), driver_(driver), caches_(caching == Caching::kOn) {}

BlockCache::~BlockCache() {
  for (const Held& held : held_) {
    for (const EventId event : held.events) driver_.forget(event);
  }
  for (const auto& [block, owned] : blocks_) {
    if (block->previous == nullptr) driver_.release(block->data);
  }
}

std::byte* BlockCache::data(const Block& block) noexcept {
  return block.data;
}

BlockCache::Block* BlockCache::take(int64_t bytes, StreamId stream, std::string_view owner) {
  require(bytes >= 0 && bytes < (int64_t{1} << 60), "{}: invalid request of {} bytes of memory", what_,
          bytes);
  const std::scoped_lock lock(mutex_);
  const int64_t size = caches_ ? std::max(kUnit, round_up(bytes, kUnit)) : std::max<int64_t>(bytes, 1);
  const bool capturing = current_capture != 0;
  const StreamId place = capture_stream(stream, current_capture);
  if (!capturing) collect(false);
  Block* block = find(size, place);
  if (block == nullptr) block = grow(size, place, stream);
  if (block == nullptr && !capturing) {
    collect(true);
    block = find(size, place);
    if (block == nullptr) block = grow(size, place, stream);
  }
  if (block == nullptr) {
    fail("out of memory on {}: {:.1f} MiB requested by '{}'\n{}", what_, static_cast<double>(bytes) / kMiB,
         owner.empty() ? "(no owner)" : owner, report_locked(10));
  }
  block->used = true;
  stats_.cached_bytes -= block->size;
  stats_.live_bytes += block->size;
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.live_bytes);
  block->owner = owner_index(owner);
  owner_bytes_[static_cast<size_t>(block->owner)] += block->size;
  return block;
}

BlockCache::Block* BlockCache::find(int64_t size, StreamId stream) {
  if (!caches_) return nullptr;
  const bool small = size <= kSmall;
  const auto pool = free_.find({stream, small});
  if (pool == free_.end()) return nullptr;
  Block probe;
  probe.size = size;
  const auto best = pool->second.lower_bound(&probe);
  if (best == pool->second.end()) return nullptr;
  Block* block = *best;
  pool->second.erase(best);
  // Do not split off a remainder below a megabyte: it would serve only small requests, which have their own
  // segments.
  if (const int64_t rest = block->size - size; small ? rest >= kUnit : rest > kSmall) split(*block, size);
  return block;
}

BlockCache::Block* BlockCache::grow(int64_t size, StreamId place, StreamId home) {
  const int64_t bytes = caches_ ? segment_bytes(size) : size;
  std::byte* memory = driver_.allocate(bytes);
  if (memory == nullptr && current_capture == 0) {  // memory is not released while work is captured
    release_locked();
    memory = driver_.allocate(bytes);
  }
  if (memory == nullptr) return nullptr;
  auto owned = std::make_unique<Block>();
  Block* block = owned.get();
  block->data = memory;
  block->size = bytes;
  block->stream = place;
  block->home = home;
  block->capture = current_capture;
  block->small = size <= kSmall;
  blocks_.emplace(block, std::move(owned));
  reserved_bytes_ += bytes;
  stats_.cached_bytes += bytes;
  if (!caches_) return block;
  free_[{place, block->small}].insert(block);
  return find(size, place);
}

void BlockCache::split(Block& block, int64_t size) {
  auto owned = std::make_unique<Block>();
  Block* rest = owned.get();
  rest->data = block.data + size;
  rest->size = block.size - size;
  rest->stream = block.stream;
  rest->home = block.home;
  rest->capture = block.capture;
  rest->small = block.small;
  rest->previous = &block;
  rest->next = block.next;
  if (rest->next != nullptr) rest->next->previous = rest;
  block.next = rest;
  block.size = size;
  blocks_.emplace(rest, std::move(owned));
  free_[{rest->stream, rest->small}].insert(rest);
}

void BlockCache::record_use(Block& block, StreamId stream) {
  const std::scoped_lock lock(mutex_);
  if (stream == block.home) return;
  if (block.capture != 0 && block.capture == current_capture) {
    block.shared = true;
    return;
  }
  if (std::find(block.users.begin(), block.users.end(), stream) == block.users.end()) {
    block.users.push_back(stream);
  }
}

void BlockCache::give_back(Block& block) noexcept {
  const std::scoped_lock lock(mutex_);
  owner_bytes_[static_cast<size_t>(block.owner)] -= block.size;
  stats_.live_bytes -= block.size;
  stats_.cached_bytes += block.size;
  // A captured kernel may read the block at every replay, which no stream event covers.
  if (current_capture != 0 && (block.capture != current_capture || block.shared)) {
    block.parked = current_capture;
    return;
  }
  try {
    if (block.users.empty()) {
      make_free(block);
      return;
    }
    held_.push_back({&block, {}});
    record_users(held_.back());
  } catch (...) {
    // The device failed, which the next call reports, or the host is out of memory. The block stays marked as
    // used and leaks: a stream may still write to it.
    if (!held_.empty() && held_.back().block == &block) {
      for (const EventId event : held_.back().events) driver_.forget(event);
      held_.pop_back();
    }
  }
}

void BlockCache::record_users(Held& held) {
  std::vector<StreamId>& users = held.block->users;
  // An event of a captured stream would be part of the capture. A later one covers the same work.
  const std::scoped_lock lock(open_captures().mutex);
  if (open_captures().count > 0) return;
  held.events.reserve(held.events.size() + users.size());
  while (!users.empty()) {
    held.events.push_back(driver_.record(users.back()));
    users.pop_back();
  }
}

void BlockCache::make_free(Block& block) {
  block.used = false;
  block.shared = false;
  if (!caches_ && block.capture == 0) return release_segment(block);
  Pool& pool = free_[{block.stream, block.small}];
  // `other` is merged into `into`, its left neighbour.
  const auto merge = [&](Block& into, Block& other) {
    into.size += other.size;
    into.next = other.next;
    if (into.next != nullptr) into.next->previous = &into;
    blocks_.erase(&other);
  };
  Block* whole = &block;
  if (Block* next = block.next; next != nullptr && !next->used) {
    pool.erase(next);
    merge(block, *next);
  }
  if (Block* previous = block.previous; previous != nullptr && !previous->used) {
    pool.erase(previous);
    merge(*previous, block);
    whole = previous;
  }
  pool.insert(whole);
}

void BlockCache::collect(bool wait) {
  std::erase_if(held_, [&](Held& held) {
    record_users(held);
    std::erase_if(held.events, [&](EventId event) {
      if (wait)
        driver_.wait(event);
      else if (!driver_.reached(event))
        return false;
      driver_.forget(event);
      return true;
    });
    if (!held.events.empty() || !held.block->users.empty()) return false;
    make_free(*held.block);
    return true;
  });
}

void MemoryBlock::forget_capture(BlockCache& cache, MemoryCapture::Id id) {
  const std::scoped_lock lock(cache.mutex_);
  std::vector<MemoryBlock*> parked;
  for (const auto& [block, owned] : cache.blocks_) {
    if (block->parked == id) parked.push_back(block);
    if (block->capture != id) continue;
    if (!block->used) {
      cache.free_[{block->stream, block->small}].erase(block);
      cache.free_[{block->home, block->small}].insert(block);
    }
    block->stream = block->home;
    block->capture = 0;
  }
  for (MemoryBlock* block : parked) {
    block->parked = 0;
    block->users.clear();
    cache.make_free(*block);
  }
  if (!cache.caches_) cache.release_locked();
}

void BlockCache::release_cached() {
  const std::scoped_lock lock(mutex_);
  collect(false);
  release_locked();
}

void BlockCache::release_locked() {
  for (auto& [key, pool] : free_) {
    std::erase_if(pool, [&](Block* block) {
      // Replays use the addresses of all segments of their capture.
      if (block->previous != nullptr || block->next != nullptr || block->capture != 0) return false;
      release_segment(*block);
      return true;
    });
  }
}

void BlockCache::release_segment(Block& block) {
  driver_.release(block.data);
  reserved_bytes_ -= block.size;
  stats_.cached_bytes -= block.size;
  blocks_.erase(&block);
}

MemoryStats BlockCache::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

void BlockCache::reset_peak() {
  const std::scoped_lock lock(mutex_);
  stats_.peak_bytes = stats_.live_bytes;
}

std::string BlockCache::report(size_t owners) const {
  const std::scoped_lock lock(mutex_);
  return report_locked(owners);
}

std::string BlockCache::report_locked(size_t owners) const {
  int64_t held_bytes = 0;
  for (const Held& held : held_) held_bytes += held.block->size;
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / kMiB; };
  std::string text = fmt::format(
      "{}: {:.1f} MiB in use (peak {:.1f}), {:.1f} MiB cached, of which {:.1f} "
      "waiting for other streams; {:.1f} MiB allocated on the device",
      what_, mib(stats_.live_bytes), mib(stats_.peak_bytes), mib(stats_.cached_bytes), mib(held_bytes),
      mib(reserved_bytes_));
  std::vector<size_t> order(owner_names_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return owner_bytes_[a] != owner_bytes_[b] ? owner_bytes_[a] > owner_bytes_[b]
                                              : owner_names_[a] < owner_names_[b];
  });
  if (order.size() > owners) order.resize(owners);
  for (const size_t i : order) {
    if (owner_bytes_[i] == 0) break;
    text += fmt::format("\n  {:10.1f} MiB  {}", mib(owner_bytes_[i]), owner_names_[i]);
  }
  return text;
}

int32_t BlockCache::owner_index(std::string_view owner) {
  if (owner.empty()) owner = "(no owner)";
  if (const auto found = owner_indices_.find(owner); found != owner_indices_.end()) return found->second;
  const auto index = static_cast<int32_t>(owner_names_.size());
  owner_names_.emplace_back(owner);
  owner_bytes_.push_back(0);
  owner_indices_.emplace(owner, index);
  return index;
}

}  // namespace tutti
