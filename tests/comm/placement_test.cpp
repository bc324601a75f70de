#include "comm/placement/placement.h"

#include <tutti/core/thread_pool.h>

#include <gtest/gtest.h>

#include <algorithm>

namespace tutti {
namespace {

TEST(PlacementTest, RanksDivideSharedCores) {
  const std::vector<RankPlace> all(2, {"a", {0, 1, 4, 5}});
  EXPECT_EQ(place_threads(all, 0, 0).cores, (std::vector<int>{0, 1}));
  EXPECT_EQ(place_threads(all, 1, 0).cores, (std::vector<int>{4, 5}));
}

TEST(PlacementTest, RunsWithFewerThreadsDoNotAllUseTheFirstCores) {
  const std::vector<RankPlace> all(2, {"a", {0, 1, 4, 5}});
  EXPECT_EQ(place_threads(all, 1, 1).threads, 1);
  EXPECT_TRUE(place_threads(all, 1, 1).cores.empty());
  EXPECT_EQ(place_threads(all, 1, 2).cores, (std::vector<int>{4, 5}));
}

TEST(PlacementTest, TheLaunchersBindingIsKept) {
  const std::vector<RankPlace> all{{"a", {0, 1}}, {"a", {2, 3}}, {"b", {0, 1}}};
  for (const int rank : {0, 1, 2})
    EXPECT_EQ(place_threads(all, rank, 0).cores, all[static_cast<size_t>(rank)].cores);
}

TEST(PlacementTest, MoreThreadsThanCoresAreNotBound) {
  const std::vector<RankPlace> all(4, {"a", {0, 1}});
  const ThreadPlacement placement = place_threads(all, 3, 0);
  EXPECT_EQ(placement.threads, 1);
  EXPECT_TRUE(placement.cores.empty());
  EXPECT_TRUE(place_threads({{"a", {0, 1}}}, 0, 3).cores.empty());
  EXPECT_EQ(place_threads({{"a", {0, 1}}}, 0, 3).threads, 3);
}

TEST(PlacementTest, OneRankHasItsCores) {
  SinglePeer peer;
  const ThreadPlacement placement = place_threads(peer, 0);
  std::vector<int> cores = placement.cores;
  std::sort(cores.begin(), cores.end());
  EXPECT_EQ(cores, usable_core_list());
  EXPECT_FALSE(host_name().empty());
}

TEST(PlacementTest, ASecondComputeOfAThreadHasTheSameCores) {
  const std::vector<int> all = usable_core_list();
  SinglePeer peer;
  {
    const Compute first(peer, {.device = "cpu"});
    const Compute second(peer, {.device = "cpu"});
    EXPECT_EQ(second.threads().threads, first.threads().threads);
    EXPECT_EQ(second.threads().cores, first.threads().cores);
    EXPECT_EQ(second.stream().pool().threads(), static_cast<int>(all.size()));
  }
  EXPECT_EQ(usable_core_list(), all);
}

}  // namespace
}  // namespace tutti
