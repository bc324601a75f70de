#include "comm/placement/device_placement.h"

#include <tutti/core/error.h>
#include "core/cuda/config.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

RankDevices visible(const std::string& host, const std::vector<std::string>& uuids) {
  return {.host = host, .uuids = uuids, .why_none = uuids.empty() ? "there is no CUDA device" : ""};
}

std::vector<int> chosen(const std::vector<RankDevices>& all, bool share = false) {
  std::vector<int> indices;
  for (size_t r = 0; r < all.size(); ++r) {
    const DevicePlacement placement = place_device(all, static_cast<int>(r), "cuda", share);
    EXPECT_EQ(placement.device.type, DeviceType::kCuda);
    EXPECT_EQ(placement.uuid, all[r].uuids.at(static_cast<size_t>(placement.device.index)));
    indices.push_back(placement.device.index);
  }
  return indices;
}

std::string refusal(const std::vector<RankDevices>& all, const std::string& wanted) {
  std::string first;
  for (size_t r = 0; r < all.size(); ++r) {
    try {
      (void)place_device(all, static_cast<int>(r), wanted, false);
      ADD_FAILURE() << "rank " << r << " got a device";
    } catch (const Error& error) {
      if (r == 0) first = error.what();
      EXPECT_EQ(error.what(), first) << "the messages of all ranks must be equal";
    }
  }
  return first;
}

TEST(DevicePlacement, RanksOfAHostUseItsGpusInOrder) {
  const std::vector<std::string> a{"GPU-a0", "GPU-a1"};
  const std::vector<std::string> b{"GPU-b0", "GPU-b1"};
  EXPECT_EQ(chosen({visible("a", a), visible("a", a), visible("b", b), visible("b", b)}),
            (std::vector{0, 1, 0, 1}));
  EXPECT_EQ(chosen({visible("a", a), visible("b", b), visible("a", a), visible("b", b)}),
            (std::vector{0, 0, 1, 1}));
  // Fewer ranks than GPUs.
  EXPECT_EQ(chosen({visible("a", a), visible("b", b)}), (std::vector{0, 0}));
}

TEST(DevicePlacement, TheLaunchersChoiceIsKept) {
  EXPECT_EQ(chosen({visible("a", {"GPU-1"}), visible("a", {"GPU-0"}), visible("a", {"GPU-2"})}),
            (std::vector{0, 0, 0}));
}

TEST(DevicePlacement, SharingIsRefusedWithAMap) {
  const std::vector<RankDevices> all{visible("a", {"GPU-0", "GPU-1"}), visible("a", {"GPU-0", "GPU-1"}),
                                     visible("a", {"GPU-0", "GPU-1"})};
  for (const char* wanted : {"cuda", "auto"}) {
    const std::string text = refusal(all, wanted);
    EXPECT_NE(text.find("rank 0: a GPU-0 (shared)"), std::string::npos) << text;
    EXPECT_NE(text.find("rank 1: a GPU-1\n"), std::string::npos) << text;
    EXPECT_NE(text.find("rank 2: a GPU-0 (shared)"), std::string::npos) << text;
    EXPECT_NE(text.find("run.share_gpus=true"), std::string::npos) << text;
  }
  EXPECT_EQ(chosen(all, true), (std::vector{0, 1, 0}));
  EXPECT_TRUE(place_device(all, 1, "cuda", true).shared);
  // Ranks with different visible devices may also share a GPU.
  EXPECT_NE(
      refusal({visible("a", {"GPU-0", "GPU-1"}), visible("a", {"GPU-0"})}, "cuda").find("rank 1: a GPU-0"),
      std::string::npos);
}

TEST(DevicePlacement, TheMapOfALargeWorldListsOnlySharedGpus) {
  std::vector<RankDevices> all;
  for (int r = 0; r < 200; ++r)
    all.push_back(visible(fmt::format("n{}", r), {fmt::format("GPU-{}", r == 150 ? 3 : r)}));
  const std::string text = refusal(all, "cuda");
  EXPECT_NE(text.find("rank 3: n3 GPU-3 (shared)\n  rank 150: n150 GPU-3 (shared)\n"), std::string::npos)
      << text;
  EXPECT_EQ(text.find("rank 4:"), std::string::npos) << text;
}

TEST(DevicePlacement, WithoutGpus) {
  const std::vector<RankDevices> none{visible("a", {}), visible("b", {})};
  const DevicePlacement placement = place_device(none, 1, "auto", false);
  EXPECT_EQ(placement.device.type, DeviceType::kCpu);
  EXPECT_EQ(placement.note, "there is no CUDA device");
  EXPECT_NE(refusal(none, "cuda").find("rank 0 on a: there is no CUDA device; rank 1 on b"),
            std::string::npos);
  const std::vector<RankDevices> some{visible("a", {"GPU-0"}), visible("b", {})};
  EXPECT_NE(refusal(some, "auto").find("rank 1 on b"), std::string::npos);
  EXPECT_EQ(place_device(some, 0, "cpu", false).device.type, DeviceType::kCpu);
}

TEST(DevicePlacement, ThisProcess) {
  SinglePeer alone;
  EXPECT_EQ(place_device(alone, "cpu", false).device.type, DeviceType::kCpu);
  if constexpr (!kWithCuda) {
    EXPECT_EQ(place_device(alone, "auto", false).note, "this build has no CUDA");
    EXPECT_THROW((void)place_device(alone, "cuda", false), Error);
  }
}

}  // namespace
}  // namespace tutti
