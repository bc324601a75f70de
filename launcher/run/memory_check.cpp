#include "launcher/run/memory_check.h"

#include "comm/placement/placement.h"

#include <tutti/core/error.h>

#include <map>
#include <sstream>

namespace tutti {

int64_t min_bytes_per_parameter(std::string_view algorithm) {
  constexpr int64_t kWeightAndGradient = 8;
  constexpr int64_t kState = 4;
  if (algorithm == "adamw" || algorithm == "adam" || algorithm == "lamb")
    return kWeightAndGradient + 2 * kState;
  return kWeightAndGradient;
}

std::vector<std::string> memory_warnings(int64_t bytes_per_rank, const std::vector<std::string>& hosts) {
  struct Found {
    int64_t ranks = 0;
    int64_t limit = 0;
  };
  std::map<std::string, Found> found;
  for (const std::string& text : hosts) {
    std::istringstream words(text);
    std::string host;
    int64_t limit = 0;
    if (!(words >> host >> limit)) continue;
    ++found[host].ranks;
    found[host].limit = limit;
  }
  constexpr double kGiB = 1 << 30;
  std::vector<std::string> warnings;
  for (const auto& [host, of] : found) {
    const int64_t needed = of.ranks * bytes_per_rank;
    if (of.limit <= 0 || needed <= of.limit) continue;
    warnings.push_back(fmt::format(
        "warning: {} ranks on {} take at least {:.2f} GiB for weights, gradients and optimizer, and may use "
        "{:.2f} GiB: the kernel will kill one. Request more memory (Slurm: --mem, containers: --memory), or "
        "use fewer ranks per host or a smaller model",
        of.ranks, host, static_cast<double>(needed) / kGiB, static_cast<double>(of.limit) / kGiB));
  }
  return warnings;
}

std::vector<std::string> memory_warnings(Module& model, std::string_view algorithm, int64_t usable_bytes,
                                         Peers& peers) {
  int64_t parameters = 0;
  for (const Parameter* p : model.parameters()) parameters += p->role == Role::kStatistic ? 0 : p->numel();
  const std::vector<std::string> hosts = peers.all_gather(fmt::format("{} {}", host_name(), usable_bytes));
  if (peers.rank() != 0) return {};
  return memory_warnings(parameters * min_bytes_per_parameter(algorithm), hosts);
}

}  // namespace tutti
