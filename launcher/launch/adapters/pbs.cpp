// PBS Pro and OpenPBS, and Torque, which has the same commands and another way to ask for nodes. Inside a job
// MPI reaches the other hosts by its own remote shell.
#include "launcher/launch/adapter.h"
#include "launcher/launch/duration.h"
#include "launcher/launch/mpirun.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/script.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

#include <algorithm>

namespace tutti {
namespace {

enum class Dialect : uint8_t { kPbs, kTorque };

/// Whether the environment or, outside a job, the machine's configuration is Torque's.
bool is_torque(const Environment& here) {
  if (here.find("PBS_JOBID")) return here.find("PBS_NUM_NODES").has_value();
  if (here.find("PBS_CONF_FILE") || here.has_file("/etc/pbs.conf")) return false;
  for (const char* file :
       {"/var/spool/torque/server_name", "/var/lib/torque/server_name", "/etc/torque/server_name"}) {
    if (here.has_file(file)) return true;
  }
  // Both may be elsewhere. PBS says "pbs_version = ...", Torque "Version: ...".
  const std::string version = here.has_program("qsub") ? here.answer({"qsub", "--version"}).value_or("") : "";
  return version.find("pbs_version") == std::string::npos && version.find("Version:") != std::string::npos;
}

std::optional<Allocation> detect_pbs_dialect(const Environment& here, Dialect dialect) {
  if (is_torque(here) != (dialect == Dialect::kTorque)) return std::nullopt;
  const std::optional<std::string> job = here.find("PBS_JOBID");
  const std::optional<std::string> file = here.find("PBS_NODEFILE");
  if (!job || !file) {
    // SGE has a qsub with other options.
    if (!here.has_program("qsub") || here.find("SGE_ROOT")) return std::nullopt;
    return Allocation{.place = Allocation::Place::kLogin};
  }
  Allocation found{.place = Allocation::Place::kInside, .job_id = *job, .host_file = *file};
  // One line a rank in both dialects.
  found.hosts = parse_host_file(here.read(*file), *file);
  const int64_t gpus = here.find("CUDA_VISIBLE_DEVICES") ? here.visible_gpus() : 0;
  for (Host& host : found.hosts) host.gpus = gpus;
  // Torque lists each core as a rank; with GPUs, there is a rank for each GPU.
  if (dialect == Dialect::kTorque && gpus > 0) {
    for (Host& host : found.hosts) host.cores = host.slots, host.slots = std::min(host.slots, gpus);
  }
  found.array_index = here.number(dialect == Dialect::kPbs ? "PBS_ARRAY_INDEX" : "PBS_ARRAYID", -1);
  return found;
}

std::optional<Allocation> detect_pbs(const Environment& here) {
  return detect_pbs_dialect(here, Dialect::kPbs);
}

std::optional<Allocation> detect_torque(const Environment& here) {
  return detect_pbs_dialect(here, Dialect::kTorque);
}

std::string resources(const LaunchSpec& spec, const std::vector<Host>& hosts, Dialect dialect) {
  const int64_t ranks = even_ranks(hosts);
  const int64_t cores = ranks * std::max<int64_t>(1, spec.cores_per_rank);
  if (dialect == Dialect::kPbs) {
    return fmt::format("-l select={}:ncpus={}:mpiprocs={}{}", hosts.size(), cores, ranks,
                       spec.gpus_per_node > 0 ? fmt::format(":ngpus={}", spec.gpus_per_node) : "");
  }
  return fmt::format("-l nodes={}:ppn={}{}", hosts.size(), cores,
                     spec.gpus_per_node > 0 ? fmt::format(":gpus={}", spec.gpus_per_node) : "");
}

Rendered render_script(const LaunchSpec& spec, const Allocation& allocation, Dialect dialect) {
  require_usage(spec.qos.empty(), "--qos: PBS has none; use --directive");
  require_usage(spec.exclude.empty(),
                "--exclude: PBS cannot leave hosts out; use --directive with a host property");
  // PBS refuses an array of one job; a sweep of one is an ordinary job, which runs it.
  const bool array = spec.sweep_size() > 1;
  require_usage(!array || !spec.requeue || spec.time_limit_s == 0,
                "--requeue with --sweep and --time: PBS cannot queue one job of an array again at its time "
                "limit; leave "
                "--requeue out, or start each combination by itself");
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  Directives lines("#PBS");
  lines.add("-N " + spec.name);
  lines.add_if("-A ", spec.account);
  lines.add_if("-q ", spec.partition);
  lines.add(resources(spec, hosts, dialect));
  if (dialect == Dialect::kPbs) lines.add("-l place=scatter");
  if (spec.time_limit_s > 0) lines.add("-l walltime=" + clock_text(spec.time_limit_s));
  // PBS Pro refuses an array whose jobs are not rerunnable.
  lines.add(spec.requeue || (array && dialect == Dialect::kPbs) ? "-r y" : "-r n");
  if (array) {
    const int64_t last = spec.sweep_size() - 1;
    const std::string limit = spec.sweep_limit > 0 ? fmt::format("%{}", spec.sweep_limit) : "";
    lines.add(fmt::format("{} 0-{}{}", dialect == Dialect::kPbs ? "-J" : "-t", last, limit));
  }
  std::vector<std::string> conditions;
  if (!spec.after.empty()) conditions.push_back(fmt::format("afterany:{}", fmt::join(spec.after, ":")));
  if (!spec.after_ok.empty()) conditions.push_back(fmt::format("afterok:{}", fmt::join(spec.after_ok, ":")));
  if (!conditions.empty()) lines.add(fmt::format("-W depend={}", fmt::join(conditions, ",")));
  check_directive_path(spec.run_directory, "PBS");
  lines.add("-j oe");
  // PBS keeps this file elsewhere until the job has ended; the job writes its own log.
  lines.add(fmt::format("-o {}/", spec.run_directory));
  lines.add_if("-v ", fmt::format("{}", fmt::join(spec.forwarded, ",")));
  for (const std::string& directive : spec.directives) lines.add(directive);

  const std::string path = script_path(spec, "pbs");
  const std::vector<std::string> submit{"qsub", path};
  return {.files = {{path, job_script(with_size(spec, hosts), lines, script_line(submit, "run.dir"),
                                      LimitSignal::kBySupervisor, "$PBS_JOBID")}},
          .argv = submit,
          .submits = true};
}

Rendered render(const LaunchSpec& spec, const Allocation& allocation, Dialect dialect) {
  if (allocation.place != Allocation::Place::kInside) return render_script(spec, allocation, dialect);
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  const std::string path = spec.run_directory + "/launch.hosts";
  return {.files = {{path, host_file_text(spec, hosts)}},
          .argv = mpirun_command(spec, hosts, {.host_file = path})};
}

Rendered render_pbs(const LaunchSpec& spec, const Allocation& allocation) {
  return render(spec, allocation, Dialect::kPbs);
}

Rendered render_torque(const LaunchSpec& spec, const Allocation& allocation) {
  return render(spec, allocation, Dialect::kTorque);
}

/// The job's attributes, among them its state: C, F and X are states of jobs that have ended, X of those
/// of arrays.
bool is_active(std::string_view printed) {
  constexpr std::string_view kKey = "job_state = ";
  const size_t key = printed.find(kKey);
  if (key == std::string_view::npos) return !printed.empty();
  const std::string_view state = printed.substr(key + kKey.size(), 1);
  return state != "C" && state != "F" && state != "X";
}

bool is_unknown(std::string_view message) {
  return contains(message, "nknown Job") || contains(message, "has finished");
}

/// The name of the server, behind the first '.', may be left out.
bool is_same_id(std::string_view a, std::string_view b) {
  const auto number = [](std::string_view id) { return id.substr(0, id.find('.')); };
  const bool one_server = !contains(a, ".") || !contains(b, ".");
  return a == b || (one_server && number(a) == number(b));
}

const SchedulerVariables kVariables{.job_id = "PBS_JOBID", .prefixes = {"PBS_"}};

constexpr std::string_view kRequeueSummary =
    "the same; at the limit of --time the job submits its script again, to begin after it";

const JobIds kJobIds{.examples = "1234, 1234.server or 1234[5].server", .same = &is_same_id};

// Only the server and its operators may queue a job again (qrerun): at its time limit a job submits its own
// script, to begin after it.
const JobCommands kCommands{.list = {"qstat"},
                            .status = {"qstat", "-f"},
                            .is_active = &is_active,
                            .is_unknown = &is_unknown,
                            .cancel = {"qdel"},
                            .submit_after = {"qsub", "-W", "depend=afterany:{job}", "{directory}/launch.pbs"},
                            .array_log = [](int64_t index) { return fmt::format("[{}]", index); }};

}  // namespace

extern const Adapter kPbsAdapter{.name = "pbs",
                                 .summary = "PBS Pro and OpenPBS: mpirun in a job, qsub outside",
                                 .detect = &detect_pbs,
                                 .render = &render_pbs,
                                 .job_ids = kJobIds,
                                 .commands = kCommands,
                                 .variables = kVariables,
                                 .requeue_summary = kRequeueSummary};

extern const Adapter kTorqueAdapter{.name = "torque",
                                    .summary = "Torque: mpirun in a job, qsub outside",
                                    .detect = &detect_torque,
                                    .render = &render_torque,
                                    .job_ids = kJobIds,
                                    .commands = kCommands,
                                    .variables = kVariables,
                                    .requeue_summary = kRequeueSummary};

}  // namespace tutti
