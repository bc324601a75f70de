#include "comm/placement/device_placement.h"

#include "comm/placement/placement.h"

#include <tutti/core/error.h>
#include "core/cuda/config.h"
#include "core/cuda/device.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <map>

namespace tutti {
namespace {

constexpr char kSeparator = '\n';  // not in host names, UUIDs and reasons

std::string encode(const RankDevices& seen) {
  std::string text = seen.host + kSeparator + seen.why_none;
  for (const std::string& uuid : seen.uuids) text += kSeparator + uuid;
  return text;
}

RankDevices decode(const std::string& text) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(kSeparator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  require(parts.size() >= 2, "GPU placement: a rank sent '{}'", text);
  return {.host = parts[0], .uuids = {parts.begin() + 2, parts.end()}, .why_none = parts[1]};
}

RankDevices seen_here() {
  RankDevices seen{.host = host_name(), .uuids = {}, .why_none = "this build has no CUDA"};
  if constexpr (kWithCuda) {
    seen.why_none = cuda::why_no_device();
    const int count = cuda::device_count();
    seen.uuids.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) seen.uuids.push_back(cuda::device_info(i).uuid);
  }
  std::replace(seen.why_none.begin(), seen.why_none.end(), kSeparator, ' ');
  return seen;
}

/// The index of each rank's GPU: its index among the ranks of its host with the same visible GPUs.
std::vector<size_t> indices(std::span<const RankDevices> all) {
  std::map<std::pair<std::string, std::vector<std::string>>, size_t> taken;
  std::vector<size_t> index;
  index.reserve(all.size());
  for (const RankDevices& seen : all) index.push_back(taken[{seen.host, seen.uuids}]++ % seen.uuids.size());
  return index;
}

/// "rank 0: nodeA GPU-...", one line per rank; in a large world only ranks that share a GPU.
std::string map_text(std::span<const RankDevices> all, const std::vector<size_t>& index,
                     const std::map<std::string, std::vector<size_t>>& ranks_of) {
  constexpr size_t kMost = 64;
  std::string text;
  size_t lines = 0;
  for (size_t r = 0; r < all.size(); ++r) {
    const std::string& uuid = all[r].uuids[index[r]];
    const bool shares = ranks_of.at(uuid).size() > 1;
    if (all.size() > kMost && !shares) continue;
    if (++lines > kMost) return text + "\n  ...";
    text += fmt::format("\n  rank {}: {} {}{}", r, all[r].host, uuid, shares ? " (shared)" : "");
  }
  return text;
}

}  // namespace

DevicePlacement place_device(std::span<const RankDevices> all, int rank, const std::string& wanted,
                             bool share) {
  if (wanted == "cpu") return {};
  std::vector<std::string> without;
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].uuids.empty())
      without.push_back(fmt::format("rank {} on {}: {}", r, all[r].host, all[r].why_none));
  }
  if (without.size() == all.size() && wanted == "auto")
    return {.device = {},
            .uuid = "",
            .pci = "",
            .shared = false,
            .note = all[static_cast<size_t>(rank)].why_none};
  constexpr size_t kMost = 8;
  const size_t more = without.size() > kMost ? without.size() - kMost : 0;
  without.resize(without.size() - more);
  require(without.empty(),
          "run.device is {}, but there are ranks without a GPU ({}{}); start ranks only on hosts with GPUs, "
          "or set run.device=cpu",
          wanted, fmt::join(without, "; "), more > 0 ? fmt::format("; and {} more", more) : "");

  const std::vector<size_t> index = indices(all);
  std::map<std::string, std::vector<size_t>> ranks_of;
  for (size_t r = 0; r < all.size(); ++r) ranks_of[all[r].uuids[index[r]]].push_back(r);
  const bool shared = ranks_of.size() < all.size();
  require(!shared || share,
          "several ranks would use one GPU:{}\nStart one rank for each GPU, set run.device=cpu, or, for a "
          "test, run.share_gpus=true",
          map_text(all, index, ranks_of));
  const size_t mine = index[static_cast<size_t>(rank)];
  return {.device = {DeviceType::kCuda, static_cast<int>(mine)},
          .uuid = all[static_cast<size_t>(rank)].uuids[mine],
          .pci = "",
          .shared = shared,
          .note = ""};
}

DevicePlacement place_device(Peers& peers, const std::string& wanted, bool share) {
  RankDevices mine;
  peers.agree([&] { mine = seen_here(); });
  std::vector<RankDevices> all;
  all.reserve(static_cast<size_t>(peers.size()));
  for (const std::string& text : peers.all_gather(encode(mine))) all.push_back(decode(text));
  DevicePlacement placement;
  peers.agree([&] {
    placement = place_device(all, peers.rank(), wanted, share);
    if constexpr (kWithCuda) {
      if (placement.device.type == DeviceType::kCuda) {
        cuda::require_usable(placement.device.index);
        placement.pci = cuda::device_info(placement.device.index).pci;
      }
    }
  });
  return placement;
}

}  // namespace tutti
