#include "launcher/run/memory_check.h"

#include "comm/placement/placement.h"

#include <tutti/core/error.h>

#include <map>
#include <sstream>

namespace tutti {

int64_t min_bytes(int64_t parameters, const RunSettings& settings, int64_t ranks) {
  const Precision& precision = settings.precision;
  const int64_t wide = size_of(precision.master);
  const int64_t master = precision.compute == precision.master ? 0 : wide;
  // muon: one state of matrices, two of other weights.
  const int64_t states = settings.optimizer.algorithm == "adamw" ? 2 * wide : wide;
  const int64_t parts = settings.parallel.zero == 1 ? ranks : 1;
  return parameters * (size_of(precision.compute) + size_of(precision.grad)) +
         parameters * (master + states) / parts;
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

std::vector<std::string> memory_warnings(Module& model, const RunSettings& settings, int64_t usable_bytes,
                                         Peers& peers) {
  int64_t parameters = 0;
  for (const Parameter* p : model.parameters()) parameters += p->role == Role::kStatistic ? 0 : p->numel();
  const std::vector<std::string> hosts = peers.all_gather(fmt::format("{} {}", host_name(), usable_bytes));
  if (peers.rank() != 0) return {};
  return memory_warnings(min_bytes(parameters, settings, peers.size()), hosts);
}

}  // namespace tutti
