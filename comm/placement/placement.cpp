#include "comm/placement/placement.h"

#include "comm/placement/locality.h"

#include <tutti/core/error.h>
#include "core/system_check.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace tutti {
namespace {

std::string encode_place(const RankPlace& place) {
  return fmt::format("{} {}", place.host, fmt::join(place.cores, " "));
}

RankPlace decode_place(const std::string& text) {
  RankPlace place;
  size_t begin = text.find(' ');
  place.host = text.substr(0, begin);
  while (begin != std::string::npos) {
    const size_t end = text.find(' ', begin + 1);
    int core = 0;
    const char* const first = text.data() + begin + 1;
    const char* const last = text.data() + std::min(end, text.size());
    const auto [stop, error] = std::from_chars(first, last, core);
    require(error == std::errc() && stop == last, "placement: a rank sent '{}'", text);
    place.cores.push_back(core);
    begin = end;
  }
  return place;
}

bool overlap(const std::vector<int>& a, const std::vector<int>& b) {
  return std::any_of(a.begin(), a.end(),
                     [&](int core) { return std::find(b.begin(), b.end(), core) != b.end(); });
}

}  // namespace

std::string host_name() {
  std::array<char, 256> name{};
  require_system(gethostname(name.data(), name.size() - 1) == 0, "cannot read the name of this machine");
  return name.data();
}

ThreadPlacement place_threads(const std::vector<RankPlace>& all, int rank, int64_t threads) {
  const RankPlace& mine = all.at(static_cast<size_t>(rank));
  int sharers = 0;
  int index = 0;
  for (size_t r = 0; r < all.size(); ++r) {
    if (all[r].host != mine.host || !overlap(all[r].cores, mine.cores)) continue;
    if (static_cast<int>(r) < rank) ++index;
    ++sharers;
  }
  const auto cores = static_cast<int>(mine.cores.size());
  const int share = std::max(1, cores / std::max(1, sharers));
  ThreadPlacement placement{.threads = threads > 0 ? static_cast<int>(threads) : share};
  if (placement.threads * sharers == cores) {
    const auto first = mine.cores.begin() + index * placement.threads;
    placement.cores.assign(first, first + placement.threads);
  }
  return placement;
}

ThreadPlacement place_threads(Peers& peers, int64_t threads, const std::string& gpu_pci) {
  std::vector<RankPlace> all;
  for (const std::string& text : peers.all_gather(encode_place({host_name(), cpus_of_rank(gpu_pci)}))) {
    all.push_back(decode_place(text));
  }
  return place_threads(all, peers.rank(), threads);
}

}  // namespace tutti
