#include <tutti/core/error.h>
#include "core/memory/capture.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdlib>
#include <set>
#include <thread>

namespace tutti {
namespace {

/// Limited host memory; events fail during a capture, as on a device.
class Driver final : public BlockCache::Driver {
 public:
  ~Driver() override { EXPECT_TRUE(live.empty()); }
  std::byte* allocate(int64_t bytes) override {
    if (bytes > left) return nullptr;
    left -= bytes;
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(
        BlockCache::kUnit,
        static_cast<size_t>((bytes + BlockCache::kUnit - 1) / BlockCache::kUnit * BlockCache::kUnit)));
    live.insert(memory);
    return memory;
  }
  void release(std::byte* memory) noexcept override {
    EXPECT_EQ(live.erase(memory), 1U);
    EXPECT_FALSE(capturing) << "memory is released while work is captured";
    std::free(memory);
  }
  BlockCache::EventId record(BlockCache::StreamId) override {
    EXPECT_FALSE(capturing) << "an event is recorded while work is captured";
    return ++events;
  }
  bool reached(BlockCache::EventId) override {
    EXPECT_FALSE(capturing) << "an event is queried while work is captured";
    return true;
  }
  void wait(BlockCache::EventId) override { ADD_FAILURE() << "unexpected wait"; }
  void forget(BlockCache::EventId) noexcept override {}

  int64_t left = int64_t{1} << 30;
  bool capturing = false;
  BlockCache::EventId events = 0;
  std::set<std::byte*> live;
};

class BlockCapture : public testing::Test {
 protected:
  static constexpr BlockCache::StreamId kStream = 64;
  static constexpr BlockCache::StreamId kOther = 128;
  static constexpr int64_t kSize = 1000;

  BlockCache::Block* take(int64_t size = kSize) { return cache.take(size, kStream, "test"); }

  /// Runs `work` as the captured work of `id`.
  template <class Work>
  void capture(MemoryCapture::Id id, Work work) {
    const MemoryCapture capturing(id);
    driver.capturing = true;
    work();
    driver.capturing = false;
  }

  Driver driver;
  BlockCache cache{"test", driver};
};

TEST_F(BlockCapture, MemoryOfACaptureIsNotUsedElsewhere) {
  const auto id = MemoryCapture::fresh();
  std::set<std::byte*> captured;
  capture(id, [&] {
    BlockCache::Block* a = take();
    BlockCache::Block* b = take();
    captured = {BlockCache::data(*a), BlockCache::data(*b)};
    cache.give_back(*a);
    // Within the capture, stream order separates two uses.
    BlockCache::Block* again = take();
    EXPECT_TRUE(captured.contains(BlockCache::data(*again)));
    cache.give_back(*again);
    cache.give_back(*b);
  });
  std::vector<BlockCache::Block*> eager;
  for (int i = 0; i < 100; ++i) {
    eager.push_back(take());
    EXPECT_FALSE(captured.contains(BlockCache::data(*eager.back())));
  }
  for (BlockCache::Block* block : eager) cache.give_back(*block);
  // Another capture has separate memory too.
  const auto second = MemoryCapture::fresh();
  capture(second, [&] {
    BlockCache::Block* block = take();
    EXPECT_FALSE(captured.contains(BlockCache::data(*block)));
    cache.give_back(*block);
  });
  MemoryCapture::forget(cache, id);
  bool found = false;
  for (int i = 0; i < 10000 && !found; ++i) {
    eager.push_back(take());
    found = captured.contains(BlockCache::data(*eager.back()));
  }
  EXPECT_TRUE(found) << "the memory of a forgotten capture is not available";
  EXPECT_EQ(driver.events, 0U);
}

TEST_F(BlockCapture, MemoryOfAnotherStreamIsNotReusedInACapture) {
  const auto id = MemoryCapture::fresh();
  capture(id, [&] {
    BlockCache::Block* a = take();
    std::byte* const memory = BlockCache::data(*a);
    cache.record_use(*a, kOther);
    cache.give_back(*a);
    for (int i = 0; i < 100; ++i) EXPECT_NE(BlockCache::data(*take()), memory);
  });
  MemoryCapture::forget(cache, id);
}

TEST_F(BlockCapture, OlderMemoryFreedDuringACaptureIsKept) {
  BlockCache::Block* before = take(5 << 20);
  std::byte* const memory = BlockCache::data(*before);
  cache.record_use(*before, kOther);
  const auto id = MemoryCapture::fresh();
  capture(id, [&] { cache.give_back(*before); });
  BlockCache::Block* after = take(5 << 20);
  EXPECT_NE(BlockCache::data(*after), memory) << "memory was reused that replays may read";
  cache.give_back(*after);
  EXPECT_EQ(cache.stats().live_bytes, 0);
  MemoryCapture::forget(cache, id);
  std::set<std::byte*> seen;
  for (int i = 0; i < 8; ++i) seen.insert(BlockCache::data(*take(5 << 20)));
  EXPECT_TRUE(seen.contains(memory));
}

TEST_F(BlockCapture, BlocksOutliveTheirCapture) {
  const auto id = MemoryCapture::fresh();
  BlockCache::Block* result = nullptr;
  capture(id, [&] { result = take(); });
  MemoryCapture::forget(cache, id);
  std::byte* const memory = BlockCache::data(*result);
  EXPECT_NE(BlockCache::data(*take()), memory);
  cache.give_back(*result);
  EXPECT_EQ(BlockCache::data(*take()), memory);
}

TEST_F(BlockCapture, OtherThreadsAreNotCaptured) {
  const auto id = MemoryCapture::fresh();
  std::byte* captured = nullptr;
  std::byte* other = nullptr;
  const MemoryCapture capturing(id);
  BlockCache::Block* mine = take();
  captured = BlockCache::data(*mine);
  cache.give_back(*mine);
  std::thread([&] { other = BlockCache::data(*take()); }).join();
  EXPECT_NE(other, captured);
}

TEST_F(BlockCapture, SegmentsStayAsLongAsTheirCaptureCanBeReplayed) {
  const auto id = MemoryCapture::fresh();
  std::set<std::byte*> captured;
  capture(id, [&] {
    BlockCache::Block* small = take();
    BlockCache::Block* large = take(50 << 20);
    captured = {BlockCache::data(*small), BlockCache::data(*large)};
    cache.give_back(*large);
    cache.give_back(*small);
    // The thread of a data loader may release memory during the capture.
    driver.capturing = false;
    std::thread([&] { cache.release_cached(); }).join();
    driver.capturing = true;
  });
  cache.release_cached();
  driver.left = 0;
  EXPECT_THROW((void)take(50 << 20), Error) << "which releases what is cached";
  for (std::byte* memory : captured)
    EXPECT_TRUE(driver.live.contains(memory)) << "a replay would use freed memory";
  EXPECT_NE(cache.report().find("0.0 MiB in use"), std::string::npos) << cache.report();
  MemoryCapture::forget(cache, id);
  cache.release_cached();
  EXPECT_TRUE(driver.live.empty()) << "the memory of a forgotten capture is not released";
}

TEST_F(BlockCapture, WithoutCachingMemoryStaysAsLongAsItsCaptureCanBeReplayed) {
  BlockCache uncached("test", driver, BlockCache::Caching::kOff);
  const auto id = MemoryCapture::fresh();
  capture(id, [&] {
    for (int i = 0; i < 3; ++i) uncached.give_back(*uncached.take(kSize, kStream, "test"));
  });
  EXPECT_EQ(driver.live.size(), 3U);
  MemoryCapture::forget(uncached, id);
  EXPECT_TRUE(driver.live.empty());
}

TEST_F(BlockCapture, OtherThreadsRecordEventsAfterTheCapture) {
  BlockCache::Block* batch = take(5 << 20);
  std::byte* const memory = BlockCache::data(*batch);
  cache.record_use(*batch, kOther);
  capture(MemoryCapture::fresh(), [&] {
    std::thread([&] {
      cache.give_back(*batch);
      BlockCache::Block* next = take(5 << 20);
      EXPECT_NE(BlockCache::data(*next), memory) << "a stream may still use it";
      cache.give_back(*next);
    }).join();
  });
  EXPECT_EQ(driver.events, 0U);
  std::set<std::byte*> seen;
  for (int i = 0; i < 8; ++i) seen.insert(BlockCache::data(*take(5 << 20)));
  EXPECT_EQ(driver.events, 1U);
  EXPECT_TRUE(seen.contains(memory)) << "it is not available after the capture";
}

TEST_F(BlockCapture, OutOfMemoryReleasesNothing) {
  BlockCache::Block* cached = take(50 << 20);
  cache.give_back(*cached);
  driver.left = 0;
  const auto id = MemoryCapture::fresh();
  capture(id, [&] { EXPECT_THROW((void)take(50 << 20), Error); });
  EXPECT_NO_THROW(cache.give_back(*take(50 << 20)));
}

}  // namespace
}  // namespace tutti
