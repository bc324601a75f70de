#include "core/memory/block_cache.h"
#include <tutti/core/error.h>
#include <tutti/core/memory/owner.h>

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace tutti {
namespace {

/// A device with limited memory; its streams are counters of submitted and completed work.
class FakeDevice final : public BlockCache::Driver {
 public:
  explicit FakeDevice(int64_t limit) : limit_(limit) {}

  std::byte* allocate(int64_t bytes) override {
    ++allocations;
    if (taken_ + bytes > limit_) return nullptr;
    taken_ += bytes;
    // Addresses are plain numbers here: the memory is never read.
    next_ += int64_t{1} << 40;
    segments_[next_] = bytes;
    return reinterpret_cast<std::byte*>(next_);
  }
  void release(std::byte* memory) noexcept override {
    const auto found = segments_.find(reinterpret_cast<intptr_t>(memory));
    if (found == segments_.end()) {
      ADD_FAILURE() << "released memory that was never allocated";
      return;
    }
    taken_ -= found->second;
    segments_.erase(found);
  }
  BlockCache::EventId record(BlockCache::StreamId stream) override {
    events_[++last_event_] = {stream, given[stream]};
    return last_event_;
  }
  bool reached(BlockCache::EventId event) override {
    const auto [stream, point] = events_.at(event);
    return done[stream] >= point;
  }
  void wait(BlockCache::EventId event) override {
    ++waits;
    const auto [stream, point] = events_.at(event);
    done[stream] = std::max(done[stream], point);
  }
  void forget(BlockCache::EventId event) noexcept override { EXPECT_EQ(events_.erase(event), 1U); }

  [[nodiscard]] int64_t taken() const { return taken_; }
  [[nodiscard]] size_t events() const { return events_.size(); }
  [[nodiscard]] bool inside_a_segment(const std::byte* data, int64_t bytes) const {
    const auto at = reinterpret_cast<intptr_t>(data);
    auto after = segments_.upper_bound(at);
    if (after == segments_.begin()) return false;
    --after;
    return at + bytes <= after->first + after->second;
  }

  std::map<BlockCache::StreamId, int> given, done;
  int allocations = 0;
  int waits = 0;

 private:
  int64_t limit_;
  int64_t taken_ = 0;
  intptr_t next_ = 0;
  uintptr_t last_event_ = 0;
  std::map<intptr_t, int64_t> segments_;
  std::map<uintptr_t, std::pair<BlockCache::StreamId, int>> events_;
};

constexpr int64_t kMiB = int64_t{1} << 20;

class BlockCacheTest : public ::testing::Test {
 protected:
  FakeDevice device{100 * kMiB};
  BlockCache cache{"cuda:0", device};
};

TEST_F(BlockCacheTest, TheSameStreamReusesItsBlockAtOnce) {
  auto* const first = cache.take(30 * kMiB, 1, "a");
  const std::byte* const where = BlockCache::data(*first);
  cache.give_back(*first);
  auto* const second = cache.take(30 * kMiB, 1, "a");
  EXPECT_EQ(BlockCache::data(*second), where);
  EXPECT_EQ(device.allocations, 1);
  EXPECT_EQ(device.events(), 0U);
  cache.give_back(*second);
}

TEST_F(BlockCacheTest, AnotherStreamGetsOtherMemory) {
  auto* const first = cache.take(30 * kMiB, 1, "a");
  const std::byte* const where = BlockCache::data(*first);
  cache.give_back(*first);
  auto* const second = cache.take(30 * kMiB, 2, "a");
  EXPECT_NE(BlockCache::data(*second), where);
  cache.give_back(*second);
}

TEST_F(BlockCacheTest, ABlockWaitsForTheOtherStreamsThatUsedIt) {
  auto* const block = cache.take(30 * kMiB, 1, "a");
  const std::byte* const where = BlockCache::data(*block);
  device.given[2] = 7;
  cache.record_use(*block, 2);
  cache.record_use(*block, 2);
  device.given[2] = 9;  // the moment of give_back counts
  cache.give_back(*block);
  EXPECT_EQ(device.events(), 1U);
  device.done[2] = 8;
  auto* const early = cache.take(30 * kMiB, 1, "a");
  EXPECT_NE(BlockCache::data(*early), where);
  device.done[2] = 9;
  auto* const late = cache.take(30 * kMiB, 1, "a");
  EXPECT_EQ(BlockCache::data(*late), where);
  EXPECT_EQ(device.events(), 0U);
  EXPECT_EQ(device.waits, 0);
  cache.give_back(*early);
  cache.give_back(*late);
}

TEST_F(BlockCacheTest, TheOwnStreamIsNotAnotherUser) {
  auto* const block = cache.take(5, 1, "a");
  cache.record_use(*block, 1);
  cache.give_back(*block);
  EXPECT_EQ(device.events(), 0U);
}

TEST_F(BlockCacheTest, NeighboursAreMergedInAnyOrder) {
  for (const bool forwards : {true, false}) {
    std::vector<BlockCache::Block*> blocks;
    for (int i = 0; i < 8; ++i) blocks.push_back(cache.take(256 << 10, 1, "a"));
    if (!forwards) std::swap(blocks.front(), blocks.back());
    for (auto* block : blocks) cache.give_back(*block);
    cache.release_cached();
    EXPECT_EQ(device.taken(), 0) << "a segment with only free blocks is released";
  }
}

TEST_F(BlockCacheTest, CachedSegmentsAreReleasedBeforeOutOfMemory) {
  cache.give_back(*cache.take(60 * kMiB, 1, "a"));
  auto* const block = cache.take(70 * kMiB, 2, "b");
  EXPECT_EQ(device.taken(), 70 * kMiB);
  cache.give_back(*block);
}

TEST_F(BlockCacheTest, WaitsForBlocksInUseBeforeOutOfMemory) {
  auto* const block = cache.take(60 * kMiB, 1, "a");
  device.given[2] = 1;
  cache.record_use(*block, 2);
  cache.give_back(*block);
  auto* const other = cache.take(70 * kMiB, 3, "b");
  EXPECT_EQ(device.waits, 1);
  cache.give_back(*other);
}

TEST_F(BlockCacheTest, OutOfMemoryNamesTheLargestOwners) {
  auto* const small = cache.take(12 * kMiB, 1, "embedding");
  auto* const large = cache.take(50 * kMiB, 1, "blocks.3.mlp");
  auto* const more = cache.take(20 * kMiB, 1, "embedding");
  try {
    cache.take(40 * kMiB, 1, "head");
    FAIL() << "an allocation beyond the limit succeeded";
  } catch (const Error& e) {
    const std::string text = e.what();
    EXPECT_NE(text.find("out of memory on cuda:0: 40.0 MiB requested by 'head'"), std::string::npos) << text;
    const size_t mlp = text.find("50.0 MiB  blocks.3.mlp");
    const size_t embedding = text.find("32.0 MiB  embedding");
    EXPECT_TRUE(mlp != std::string::npos && embedding != std::string::npos && mlp < embedding) << text;
    EXPECT_EQ(text.find("  head"), std::string::npos) << text;
  }
  cache.give_back(*large);
  auto* const now = cache.take(40 * kMiB, 1, "head");
  for (auto* block : {small, more, now}) cache.give_back(*block);
  EXPECT_EQ(cache.report().find("embedding"), std::string::npos) << cache.report();
}

TEST_F(BlockCacheTest, Statistics) {
  auto* const a = cache.take(1, 1, "a");
  auto* const b = cache.take(2 * BlockCache::kUnit + 1, 1, "a");
  EXPECT_EQ(cache.stats().live_bytes, 4 * BlockCache::kUnit);
  EXPECT_EQ(cache.stats().live_bytes + cache.stats().cached_bytes, BlockCache::kSmallSegment);
  cache.give_back(*b);
  EXPECT_EQ(cache.stats().live_bytes, BlockCache::kUnit);
  EXPECT_EQ(cache.stats().peak_bytes, 4 * BlockCache::kUnit);
  cache.reset_peak();
  EXPECT_EQ(cache.stats().peak_bytes, BlockCache::kUnit);
  cache.give_back(*a);
  EXPECT_THROW(cache.take(-1, 1, "a"), Error);
}

TEST(UncachedBlocks, AreTheDrivers) {
  FakeDevice device(1000);
  BlockCache cache("test", device, BlockCache::Caching::kOff);
  BlockCache::Block* a = cache.take(600, 1, "a");
  EXPECT_TRUE(device.inside_a_segment(BlockCache::data(*a), 600));
  EXPECT_FALSE(device.inside_a_segment(BlockCache::data(*a), 601));
  EXPECT_THROW((void)cache.take(401, 1, "b"), Error);
  cache.give_back(*a);
  EXPECT_EQ(device.taken(), 0);
  // One that another stream uses is waited for.
  BlockCache::Block* b = cache.take(700, 1, "b");
  device.given[2] = 1;
  cache.record_use(*b, 2);
  cache.give_back(*b);
  EXPECT_EQ(device.taken(), 700);
  cache.give_back(*cache.take(800, 1, "c"));
  EXPECT_EQ(device.waits, 1);
  EXPECT_EQ(device.taken(), 0);
  EXPECT_EQ(cache.stats().live_bytes + cache.stats().cached_bytes, 0);
}

TEST_F(BlockCacheTest, RandomUseNeverOverlaps) {
  const auto seed = std::random_device()();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937 engine(seed);
  const auto below = [&](int64_t n) { return std::uniform_int_distribution<int64_t>(0, n - 1)(engine); };
  struct Live {
    BlockCache::Block* block;
    int64_t bytes;
  };
  std::map<const std::byte*, Live> live;
  int refused = 0;
  for (int step = 0; step < 5000; ++step) {
    if (below(100) < 55) {
      const int64_t bytes = below(4) == 0 ? below(12 * kMiB) : below(4) == 1 ? below(2 * kMiB) : below(20000);
      BlockCache::Block* block = nullptr;
      try {
        block = cache.take(bytes, 1 + static_cast<uintptr_t>(below(3)), "a");
      } catch (const Error&) {
        ++refused;
      }
      if (block != nullptr) {
        const std::byte* const at = BlockCache::data(*block);
        EXPECT_EQ(reinterpret_cast<intptr_t>(at) % BlockCache::kUnit, 0);
        EXPECT_TRUE(device.inside_a_segment(at, bytes));
        const auto [place, fresh] = live.emplace(at, Live{block, bytes});
        ASSERT_TRUE(fresh);
        if (place != live.begin()) {
          const auto before = std::prev(place);
          ASSERT_LE(before->first + before->second.bytes, at);
        }
        if (const auto after = std::next(place); after != live.end()) {
          ASSERT_LE(at + bytes, after->first);
        }
      }
    }
    if (!live.empty() && (below(100) < 50 || live.size() > 60)) {
      auto victim = live.begin();
      std::advance(victim, below(static_cast<int64_t>(live.size())));
      const auto stream = 1 + static_cast<uintptr_t>(below(3));
      ++device.given[stream];
      if (below(3) == 0) cache.record_use(*victim->second.block, stream);
      cache.give_back(*victim->second.block);
      live.erase(victim);
    }
    const auto stream = 1 + static_cast<uintptr_t>(below(3));
    if (device.done[stream] < device.given[stream]) ++device.done[stream];
    if (step % 1000 == 999) cache.release_cached();
  }
  for (auto& [at, entry] : live) cache.give_back(*entry.block);
  device.done = device.given;
  cache.release_cached();
  EXPECT_EQ(device.taken(), 0);
  EXPECT_EQ(device.events(), 0U);
  EXPECT_EQ(cache.stats().live_bytes, 0);
  EXPECT_EQ(cache.stats().cached_bytes, 0);
  EXPECT_LT(refused, 2500);
}

TEST(MemoryOwnerTest, ScopesNest) {
  EXPECT_EQ(MemoryOwner::current(), "");
  {
    const MemoryOwner outer("blocks.0");
    {
      const MemoryOwner inner("layer_norm");
      EXPECT_EQ(MemoryOwner::current(), "layer_norm");
    }
    EXPECT_EQ(MemoryOwner::current(), "blocks.0");
  }
  EXPECT_EQ(MemoryOwner::current(), "");
}

}  // namespace
}  // namespace tutti
