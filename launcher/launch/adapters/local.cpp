// This machine by itself: mpirun, or the program alone for one rank.
#include "launcher/launch/adapter.h"
#include "launcher/launch/mpirun.h"

#include <tutti/core/error.h>

namespace tutti {
namespace {

std::optional<Allocation> detect_local(const Environment& here) {
  const int64_t gpus = here.visible_gpus();
  return Allocation{
      .hosts = {{.name = here.host, .slots = gpus > 0 ? gpus : 1, .cores = here.cores, .gpus = gpus}}};
}

Rendered render_local(const LaunchSpec& spec, const Allocation& allocation) {
  require(
      spec.nodes <= 1,
      "--nodes {}: no scheduler was found here, only this machine. Name the machines by --host-file FILE, or "
      "call tutti on a login node (--scheduler NAME where it is not found by itself)",
      spec.nodes);
  refuse_requeue(spec);
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  if (total_ranks(hosts) == 1) return {.argv = rank_command(spec)};
  const bool oversubscribe = hosts.front().slots > hosts.front().cores && hosts.front().cores > 0;
  return {.argv = mpirun_command(spec, hosts, {.oversubscribe = oversubscribe})};
}

}  // namespace

extern const Adapter kLocalAdapter{
    .name = "local", .summary = "this machine, by mpirun", .detect = &detect_local, .render = &render_local};

}  // namespace tutti
