// Machines in a host file, reached by MPI's own remote shell. The pods of a Kubernetes MPIJob are started
// this way: the operator gives the launcher's pod a host file.
#include "launcher/launch/adapter.h"
#include "launcher/launch/mpirun.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

#include <array>

namespace tutti {
namespace {

constexpr const char* kPodRole = "K_MPI_JOB_ROLE";

std::optional<Allocation> detect_host_file(const Environment& here) {
  // --host-file sets the first of them.
  constexpr std::array kVariables{"TUTTI_HOST_FILE", "OMPI_MCA_orte_default_hostfile",
                                  "PRTE_MCA_prte_default_hostfile", "HYDRA_HOST_FILE",
                                  "I_MPI_HYDRA_HOST_FILE"};
  for (const char* variable : kVariables) {
    const std::optional<std::string> path = here.find(variable);
    if (!path || path->empty()) continue;
    return Allocation{.place = Allocation::Place::kHere,
                      .hosts = parse_host_file(here.read(*path), *path),
                      .host_file = *path};
  }
  return std::nullopt;
}

Rendered render_host_file(const LaunchSpec& spec, const Allocation& allocation) {
  require_usage(!allocation.host_file.empty(), "--scheduler hostfile: no file; name it by --host-file FILE");
  refuse_requeue(spec);
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  // A file of its own, because the size or the excluded hosts may differ from the given one.
  const std::string path = spec.run_directory + "/launch.hosts";
  return {.files = {{path, host_file_text(spec, hosts)}},
          .argv = mpirun_command(spec, hosts, {.host_file = path})};
}

/// Machines that boot, and pods of a job, which start one after the other.
int64_t host_wait_s(const Environment& here) {
  constexpr int64_t kMachines_s = 60;
  constexpr int64_t kPods_s = 600;
  return here.text(kPodRole) == "launcher" ? kPods_s : kMachines_s;
}

}  // namespace

extern const Adapter kHostFileAdapter{.name = "hostfile",
                                      .summary = "machines of a host file, by mpirun",
                                      .detect = &detect_host_file,
                                      .render = &render_host_file,
                                      .variables = {.names = {kPodRole}},
                                      .host_wait_s = &host_wait_s};

}  // namespace tutti
