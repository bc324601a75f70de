// Flux: `flux run` inside an instance, `flux batch` outside a job.
#include "launcher/launch/adapter.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/script.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

namespace tutti {
namespace {

/// `flux batch` starts an instance of its own for the script, and has the id of its job.
std::optional<Allocation> detect_flux(const Environment& here) {
  const std::string job = here.text("FLUX_ENCLOSING_ID");
  if (here.find("FLUX_URI") && !job.empty()) {
    // The instance chooses the hosts; their number is --nodes of the script.
    return Allocation{.place = Allocation::Place::kInside, .job_id = job};
  }
  if (!here.has_program("flux")) return std::nullopt;
  const bool system = here.find("FLUX_URI") || here.has_file("/etc/flux/system/conf.d") ||
                      here.has_file("/run/flux/local") || here.answer({"flux", "getattr", "size"});
  if (!system) return std::nullopt;
  return Allocation{.place = Allocation::Place::kLogin};
}

Rendered render_run(const LaunchSpec& spec, const Allocation& allocation) {
  require_usage(spec.exclude.empty(), "--exclude: give it to `flux batch`, when the job is submitted");
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  std::vector<std::string> words{"flux", "run"};
  words.push_back(fmt::format("--nodes={}", hosts.size()));
  words.push_back(fmt::format("--ntasks={}", total_ranks(hosts)));
  if (spec.cores_per_rank > 0) words.push_back(fmt::format("--cores-per-task={}", spec.cores_per_rank));
  if (spec.gpus_per_node > 0)
    words.push_back(fmt::format("--gpus-per-task={}", spec.gpus_per_node / hosts.front().slots));
  // Open MPI 5 supports PMIx only, which a plugin of Flux's shell provides.
  if (spec.library.family == MpiLibrary::Family::kOpenMpi && spec.library.major_version >= 5) {
    words.emplace_back("-opmi=pmix");
  }
  // When a rank fails, the others are killed.
  words.emplace_back("-oexit-on-error");
  words.emplace_back("-oexit-timeout=2s");
  words.emplace_back("--env=-*");
  for (const std::string& name : spec.forwarded) words.push_back("--env=" + name);
  const std::vector<std::string> command = rank_command(spec);
  words.insert(words.end(), command.begin(), command.end());
  return {.argv = std::move(words)};
}

Rendered render_flux(const LaunchSpec& spec, const Allocation& allocation) {
  if (allocation.place == Allocation::Place::kInside) return render_run(spec, allocation);
  require_usage(spec.sweep.empty(), "--sweep: Flux has no job arrays; start each combination by itself");
  require_usage(
      !spec.requeue,
      "--requeue: Flux cannot queue a job again; queue a second launch after the first by --after JOB, with "
      "--resume after the run file");
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  Directives lines("# flux:");
  lines.add("--job-name=" + spec.name);
  lines.add_if("--bank=", spec.account);
  lines.add_if("--queue=", spec.partition);
  require_usage(spec.qos.empty(), "--qos: Flux has none; use --directive=--urgency=N");
  lines.add(fmt::format("--nodes={}", hosts.size()));
  lines.add(fmt::format("--nslots={}", total_ranks(hosts)));
  if (spec.cores_per_rank > 0) lines.add(fmt::format("--cores-per-slot={}", spec.cores_per_rank));
  if (spec.gpus_per_node > 0)
    lines.add(fmt::format("--gpus-per-slot={}", spec.gpus_per_node / hosts.front().slots));
  if (spec.time_limit_s > 0) lines.add(fmt::format("--time-limit={}s", spec.time_limit_s));
  for (const std::string& job : spec.after) lines.add("--dependency=afterany:" + job);
  for (const std::string& job : spec.after_ok) lines.add("--dependency=afterok:" + job);
  for (const std::string& host : spec.exclude) lines.add("--requires=-host:" + host);
  check_directive_path(spec.run_directory, "Flux");
  lines.add(fmt::format("--output={}/launch-{{{{id}}}}.log", spec.run_directory));
  lines.add("--env=-*");
  for (const std::string& name : spec.forwarded) lines.add("--env=" + name);
  for (const std::string& directive : spec.directives) lines.add(directive);

  LaunchSpec inner = with_size(spec, hosts);
  inner.exclude.clear();
  const std::string path = script_path(spec, "flux");
  const std::vector<std::string> submit{"flux", "batch", path};
  return {
      .files = {{path, job_script(inner, lines, script_line(submit, "run.dir"), LimitSignal::kBySupervisor)}},
      .argv = submit,
      .submits = true};
}

/// One state (RFC 21). A job that is named is listed in any state.
bool is_active(std::string_view printed) {
  return !printed.empty() && printed.find("INACTIVE") == std::string_view::npos;
}

bool is_unknown(std::string_view message) {
  return contains(message, "JobID") && contains(message, "unknown");
}

/// Without the sign U+0192 of the form F58, for which Flux also takes an 'f'.
std::string_view without_sign(std::string_view id) {
  constexpr std::string_view kSign = "\xC6\x92";
  if (id.starts_with(kSign)) id.remove_prefix(kSign.size());
  return id;
}

/// All forms: F58, decimal, hexadecimal, "0000.0004.7ff0.0000".
bool is_id(std::string_view text) {
  return is_job_word(without_sign(text));
}

bool is_same_id(std::string_view a, std::string_view b) {
  const auto plain = [](std::string_view id) {
    const std::string_view rest = without_sign(id);
    return rest.size() < id.size() ? fmt::format("f{}", rest) : std::string(id);
  };
  return plain(a) == plain(b);
}

}  // namespace

extern const Adapter kFluxAdapter{.name = "flux",
                                  .summary = "flux run in a job, flux batch outside",
                                  .detect = &detect_flux,
                                  .render = &render_flux,
                                  .job_ids = {.examples = "f2Wk7dCu", .valid = &is_id, .same = &is_same_id},
                                  .commands = {.list = {"flux", "jobs"},
                                               .status = {"flux", "jobs", "-n", "--format={state}"},
                                               .is_active = &is_active,
                                               .is_unknown = &is_unknown,
                                               .cancel = {"flux", "cancel"}},
                                  .variables = {.job_id = "FLUX_JOB_ID", .prefixes = {"FLUX_"}},
                                  .starter = {.rank = "FLUX_TASK_RANK", .size = "FLUX_JOB_SIZE"}};

}  // namespace tutti
