// IBM Spectrum LSF. Inside a job blaunch replaces ssh, so that LSF accounts for the processes of MPI and ends
// them.
#include "launcher/launch/adapter.h"
#include "launcher/launch/mpirun.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/script.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <sstream>

namespace tutti {
namespace {

constexpr int kRequeueCode = 75;

/// "hostA 2 hostB 2".
std::vector<Host> parse_mcpu_hosts(const std::string& text) {
  std::vector<Host> hosts;
  std::istringstream words(text);
  std::string name;
  int64_t slots = 0;
  while (words >> name) {
    const bool good = static_cast<bool>(words >> slots) && slots > 0 && slots <= 4096 && is_host_name(name);
    require(good, "LSB_MCPU_HOSTS='{}' is not a list of hosts and slots", text);
    hosts.push_back({.name = name, .slots = slots, .cores = slots});
  }
  require(!hosts.empty(), "LSB_MCPU_HOSTS names no host");
  return hosts;
}

std::optional<Allocation> detect_lsf(const Environment& here) {
  const std::string job = here.text("LSB_JOBID");
  const std::optional<std::string> hosts = here.find("LSB_MCPU_HOSTS");
  if (job.empty() || !hosts) {
    if (!here.has_program("bsub")) return std::nullopt;
    return Allocation{.place = Allocation::Place::kLogin};
  }
  Allocation found{.place = Allocation::Place::kInside, .job_id = job, .hosts = parse_mcpu_hosts(*hosts)};
  // A slot is a core unless there are GPUs, of which each rank has one.
  const int64_t gpus = here.find("CUDA_VISIBLE_DEVICES") ? here.visible_gpus() : 0;
  for (Host& host : found.hosts) {
    host.gpus = gpus;
    if (gpus > 0) host.slots = std::min(host.slots, gpus);
  }
  // LSF numbers an array from 1; 0 is no array.
  found.array_index = here.number("LSB_JOBINDEX", 0) - 1;
  return found;
}

/// LSF takes a limit in hours and minutes.
std::string limit_text(int64_t seconds) {
  const int64_t minutes = (seconds + 59) / 60;
  return fmt::format("{}:{:02}", minutes / 60, minutes % 60);
}

std::string condition(const LaunchSpec& spec) {
  std::vector<std::string> parts;
  parts.reserve(spec.after.size() + spec.after_ok.size());
  for (const std::string& job : spec.after) parts.push_back(fmt::format("ended({})", job));
  for (const std::string& job : spec.after_ok) parts.push_back(fmt::format("done({})", job));
  return fmt::format("{}", fmt::join(parts, " && "));
}

/// "span[ptile=2] select[hname!='bad1']".
std::string requirement(const LaunchSpec& spec, int64_t slots_per_node) {
  std::string text = fmt::format("span[ptile={}]", slots_per_node);
  std::vector<std::string> hosts;
  hosts.reserve(spec.exclude.size());
  for (const std::string& host : spec.exclude) hosts.push_back(fmt::format("hname!='{}'", host));
  if (!hosts.empty()) text += fmt::format(" select[{}]", fmt::join(hosts, " && "));
  return text;
}

Rendered render_bsub(const LaunchSpec& spec, const Allocation& allocation) {
  require_usage(spec.qos.empty(), "--qos: LSF has none; use --directive=-sla=NAME or another queue");
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  const int64_t per_node = even_ranks(hosts) * std::max<int64_t>(1, spec.cores_per_rank);
  Directives lines("#BSUB");
  const std::string limit = spec.sweep_limit > 0 ? fmt::format("%{}", spec.sweep_limit) : "";
  // A sweep of one is an ordinary job, which runs it.
  const bool array = spec.sweep_size() > 1;
  lines.add(array ? fmt::format("-J \"{}[1-{}]{}\"", spec.name, spec.sweep_size(), limit)
                  : "-J " + spec.name);
  lines.add_if("-P ", spec.account);
  lines.add_if("-q ", spec.partition);
  lines.add(fmt::format("-n {}", per_node * static_cast<int64_t>(hosts.size())));
  lines.add(fmt::format("-R \"{}\"", requirement(spec, per_node)));
  if (spec.gpus_per_node > 0) lines.add(fmt::format("-gpu \"num={}/host\"", spec.gpus_per_node));
  if (spec.time_limit_s > 0) lines.add("-W " + limit_text(spec.time_limit_s));
  // -r: after the loss of a host. With this exit code, the supervisor requests a requeue.
  if (spec.requeue) lines.add(fmt::format("-r -Q \"{}\"", kRequeueCode));
  if (const std::string text = condition(spec); !text.empty()) lines.add(fmt::format("-w \"{}\"", text));
  check_directive_path(spec.run_directory, "LSF");
  lines.add(fmt::format("-o {}/launch-%J{}.log", spec.run_directory, array ? "_%I" : ""));
  lines.add(fmt::format("-env \"{}\"",
                        spec.forwarded.empty() ? "none" : fmt::format("{}", fmt::join(spec.forwarded, ","))));
  for (const std::string& directive : spec.directives) lines.add(directive);

  const std::string path = script_path(spec, "bsub");
  const std::vector<std::string> file{path};
  // bsub reads directives only from its standard input.
  return {.files = {{path, job_script(with_size(spec, hosts), lines, "bsub < " + script_line(file, "run.dir"),
                                      LimitSignal::kBySupervisor)}},
          .input = path,
          .argv = {"bsub"},
          .submits = true};
}

Rendered render_lsf(const LaunchSpec& spec, const Allocation& allocation) {
  if (allocation.place != Allocation::Place::kInside) return render_bsub(spec, allocation);
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  const std::string path = spec.run_directory + "/launch.hosts";
  return {.files = {{path, host_file_text(spec, hosts)}},
          .argv = mpirun_command(spec, hosts, {.host_file = path, .remote_shell = "blaunch"})};
}

/// The state of a job, or a line for each of an array. A job that is named is listed for some time after
/// its end.
bool is_active(std::string_view printed) {
  std::istringstream lines{std::string(printed)};
  for (std::string line; std::getline(lines, line);) {
    const auto says = [&](std::string_view state) { return line.find(state) != std::string::npos; };
    if (line.find_first_not_of(" \t\r") != std::string::npos && !says("DONE") && !says("EXIT")) return true;
  }
  return false;
}

bool is_unknown(std::string_view message) {
  return contains(message, "is not found") || contains(message, "No unfinished job") ||
         contains(message, "No matching job");
}

/// "Job <123> is submitted to queue <normal>."
std::string_view parse_id(std::string_view printed) {
  constexpr std::string_view kBegin = "Job <";
  const size_t open = printed.find(kBegin);
  if (open == std::string_view::npos) return last_line(printed);
  const std::string_view rest = printed.substr(open + kBegin.size());
  return rest.substr(0, rest.find('>'));
}

}  // namespace

extern const Adapter kLsfAdapter{
    .name = "lsf",
    .summary = "mpirun over blaunch in a job, bsub outside",
    .detect = &detect_lsf,
    .render = &render_lsf,
    .job_ids = {.examples = "1234 or 1234[5]", .parse = &parse_id},
    .commands = {.list = {"bjobs"},
                 .status = {"bjobs", "-noheader", "-o", "stat"},
                 .is_active = &is_active,
                 .is_unknown = &is_unknown,
                 .cancel = {"bkill"},
                 .requeue_code = kRequeueCode,
                 // LSF numbers an array from 1.
                 .array_log = [](int64_t index) { return fmt::format("_{}.log", index + 1); }},
    .variables = {.job_id = "LSB_JOBID", .prefixes = {"LSB_", "LSF_"}, .names = {"EGO_CONFDIR"}},
    .starter = {.rank = "JSM_NAMESPACE_RANK", .size = "JSM_NAMESPACE_SIZE"},
    .requeue_summary = "queued again at the time limit, after preemption and after a lost host"};

}  // namespace tutti
