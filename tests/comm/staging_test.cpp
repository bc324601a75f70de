#include "comm/staging.h"

#include <tutti/core/error.h>

#include <gtest/gtest.h>

#include <map>

namespace tutti {
namespace {

using Kind = StagingAction::Kind;

/// Runs a schedule on buffers with recorded contents. Every element must be downloaded, exchanged and
/// uploaded once, in order, and no buffer may be filled before the upload of its last chunk was started.
void simulate(int64_t count, int64_t chunk, int buffers) {
  SCOPED_TRACE(testing::Message() << count << " by " << chunk << " with " << buffers);
  struct Held {
    int64_t begin = -1;
    Kind state = Kind::kUpload;
  };
  std::map<int, Held> held;
  int64_t down = 0;
  int64_t across = 0;
  int64_t up = 0;
  int64_t most_ahead = 0;
  for (const StagingAction& a : staging_schedule(count, chunk, buffers)) {
    ASSERT_GE(a.buffer, 0);
    ASSERT_LT(a.buffer, buffers);
    ASSERT_GT(a.end, a.begin);
    ASSERT_LE(a.end - a.begin, chunk);
    Held& buffer = held[a.buffer];
    switch (a.kind) {
      case Kind::kDownload:
        ASSERT_EQ(a.begin, down);
        ASSERT_EQ(buffer.state, Kind::kUpload) << "a buffer was filled while it was in use";
        buffer.begin = a.begin;
        down = a.end;
        most_ahead = std::max(most_ahead, down - across);
        break;
      case Kind::kExchange:
        ASSERT_EQ(a.begin, across);
        ASSERT_EQ(buffer.begin, a.begin);
        ASSERT_EQ(buffer.state, Kind::kDownload);
        across = a.end;
        break;
      case Kind::kUpload:
        ASSERT_EQ(a.begin, up);
        ASSERT_EQ(buffer.begin, a.begin);
        ASSERT_EQ(buffer.state, Kind::kExchange);
        up = a.end;
        break;
    }
    buffer.state = a.kind;
  }
  EXPECT_EQ(down, count);
  EXPECT_EQ(across, count);
  EXPECT_EQ(up, count);
  EXPECT_EQ(most_ahead, std::min(count, chunk * buffers)) << "not all buffers were used";
}

TEST(Staging, EveryChunkPassesOnceInOrder) {
  for (const int64_t count : {1, 2, 5, 6, 7, 100, 101}) {
    for (const int64_t chunk : {1, 2, 3, 100, 1000}) {
      for (const int buffers : {1, 2, 3, 5}) simulate(count, chunk, buffers);
    }
  }
}

TEST(Staging, TheNextDownloadOverlapsAnExchange) {
  const std::vector<StagingAction> expected{
      {Kind::kDownload, 0, 4, 0}, {Kind::kDownload, 4, 8, 1}, {Kind::kExchange, 0, 4, 0},
      {Kind::kUpload, 0, 4, 0},   {Kind::kDownload, 8, 9, 0}, {Kind::kExchange, 4, 8, 1},
      {Kind::kUpload, 4, 8, 1},   {Kind::kExchange, 8, 9, 0}, {Kind::kUpload, 8, 9, 0}};
  EXPECT_EQ(staging_schedule(9, 4, 2), expected);
}

TEST(Staging, Limits) {
  EXPECT_TRUE(staging_schedule(0, 4, 2).empty());
  EXPECT_THROW((void)staging_schedule(-1, 4, 2), Error);
  EXPECT_THROW((void)staging_schedule(1, 0, 2), Error);
  EXPECT_THROW((void)staging_schedule(1, 4, 0), Error);
}

}  // namespace
}  // namespace tutti
