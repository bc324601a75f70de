// Slurm: srun (or mpirun) inside an allocation, an sbatch script outside.
#include "launcher/launch/adapter.h"
#include "launcher/launch/adapters/slurm_host_list.h"
#include "launcher/launch/adapters/slurm_messages.h"
#include "launcher/launch/adapters/slurm_mpi.h"
#include "launcher/launch/duration.h"
#include "launcher/launch/mpirun.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/script.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <sstream>

namespace tutti {
namespace {

/// Whether this runs as a step, such as the shell of `srun --pty bash`: some variables are then of the step
/// alone, others of the job.
bool in_step(const Environment& here) {
  return here.find("SLURM_STEP_ID").has_value();
}

/// The counts of a variable such as SLURM_TASKS_PER_NODE, one a host; `otherwise` where it is not set or
/// counts the hosts of a step.
std::vector<int64_t> counts(const Environment& here, std::string_view name, size_t hosts, int64_t otherwise) {
  const std::optional<std::string> text = here.find(name);
  if (!text) return std::vector<int64_t>(hosts, otherwise);
  std::vector<int64_t> values = expand_counts(*text);
  if (values.size() != hosts && in_step(here)) return std::vector<int64_t>(hosts, otherwise);
  require(values.size() == hosts, "{}={} does not fit the {} hosts of SLURM_JOB_NODELIST={}", name, *text,
          hosts, here.text("SLURM_JOB_NODELIST"));
  return values;
}

/// Splits at the commas outside of parentheses, as in "gpu:a100:2(IDX:0,3),gpu:v100:1".
std::vector<std::string_view> kinds_of(std::string_view text) {
  std::vector<std::string_view> kinds;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '(') ++depth;
    if (i < text.size() && text[i] == ')') --depth;
    if (i < text.size() && (text[i] != ',' || depth > 0)) continue;
    if (i > begin) kinds.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  return kinds;
}

/// "2" of "2", "gpu:2", "gpu:a100:2", "a100:2(S:0-1)", 1 of "gpu", and the sum of several kinds; 0 for none.
int64_t gpu_count(std::string_view text) {
  int64_t sum = 0;
  for (std::string_view kind : kinds_of(text)) {
    kind = kind.substr(0, kind.find('('));
    const std::string_view number = kind.substr(kind.rfind(':') + 1);
    const bool counted = !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos;
    sum += counted ? expand_counts(number).front() : 1;
  }
  return sum;
}

/// GPUs of each host as `scontrol show job --details` has them: lines with "Nodes=node[1-2]" and
/// "GRES=gpu:a100:2(IDX:0-1)".
std::map<std::string, int64_t> gpus_in_details(const std::string& text) {
  std::map<std::string, int64_t> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string nodes;
    int64_t gpus = 0;
    for (std::string word; words >> word;) {
      if (word.starts_with("Nodes=")) nodes = word.substr(6);
      if (!word.starts_with("GRES=")) continue;
      for (const std::string_view kind : kinds_of(std::string_view(word).substr(5))) {
        if (kind.starts_with("gpu")) gpus += gpu_count(kind);
      }
    }
    if (gpus == 0) continue;
    for (const std::string& name : expand_host_list(nodes)) found[name] += gpus;
  }
  return found;
}

/// GPUs of the job on each host. Variables contain those of some options and, in a batch script, of its
/// own host; the controller has all.
std::vector<int64_t> gpus_of_hosts(const Environment& here, const std::vector<std::string>& names,
                                   const std::vector<int64_t>& tasks) {
  const auto total = static_cast<int64_t>(names.size());
  std::optional<int64_t> each;
  for (const char* name : {"SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE"}) {
    if (const std::string text = here.text(name); !each && !text.empty()) each = gpu_count(text);
  }
  // Without a variable of Slurm, visible devices are not necessarily the job's.
  if (!each && here.find("SLURM_JOB_GPUS")) each = here.visible_gpus();
  const std::string sum = here.text("SLURM_GPUS");
  const bool even = each && (sum.empty() || gpu_count(sum) == *each * total);
  if (even) return std::vector<int64_t>(names.size(), *each);
  if (const auto details = here.answer({"scontrol", "show", "job", "--details", here.text("SLURM_JOB_ID")})) {
    const std::map<std::string, int64_t> found = gpus_in_details(*details);
    std::vector<int64_t> gpus;
    gpus.reserve(names.size());
    for (const std::string& name : names) gpus.push_back(found.contains(name) ? found.at(name) : 0);
    return gpus;
  }
  if (each) return std::vector<int64_t>(names.size(), *each);
  const std::string of_task = here.text("SLURM_GPUS_PER_TASK");
  std::vector<int64_t> gpus(names.size(), sum.empty() ? 0 : gpu_count(sum) / total);
  for (size_t i = 0; i < names.size() && !of_task.empty(); ++i) gpus[i] = tasks[i] * gpu_count(of_task);
  return gpus;
}

/// Whether there is a cluster, and not only Slurm's package. Without a file in a usual place, the
/// configuration may be compiled in or come from the controller.
bool has_cluster(const Environment& here) {
  if (here.find("SLURM_CONF")) return true;
  for (const char* file :
       {"/etc/slurm/slurm.conf", "/run/slurm/conf/slurm.conf", "/etc/slurm-llnl/slurm.conf"}) {
    if (here.has_file(file)) return true;
  }
  return here.answer({"sinfo", "--noheader", "--format=%R"}).has_value();
}

std::optional<Allocation> detect_slurm(const Environment& here) {
  const std::string job = here.text("SLURM_JOB_ID");
  if (job.empty() || !here.find("SLURM_JOB_NODELIST")) {
    if (!here.has_program("sbatch") || !has_cluster(here)) return std::nullopt;
    return Allocation{.place = Allocation::Place::kLogin};
  }
  Allocation found{.place = Allocation::Place::kInside, .job_id = job};
  const std::vector<std::string> names = expand_host_list(here.text("SLURM_JOB_NODELIST"));
  const std::vector<int64_t> tasks =
      counts(here, "SLURM_TASKS_PER_NODE", names.size(), in_step(here) ? 0 : 1);
  const std::vector<int64_t> cores = counts(here, "SLURM_JOB_CPUS_PER_NODE", names.size(), 0);
  const std::vector<int64_t> gpus = gpus_of_hosts(here, names, tasks);
  found.cores_per_rank = here.number("SLURM_CPUS_PER_TASK", 0);
  // Without --ntasks Slurm counts each core as a task; there is then a rank for each GPU, or one for the
  // node. srun starts at most as many ranks as the job has CPUs.
  const bool asked = here.find("SLURM_NTASKS").has_value() || here.find("SLURM_NTASKS_PER_NODE").has_value();
  for (size_t i = 0; i < names.size(); ++i) {
    const int64_t fitting = cores[i] > 0 ? cores[i] : std::numeric_limits<int64_t>::max();
    const int64_t slots = asked && tasks[i] > 0 ? tasks[i] : std::clamp<int64_t>(gpus[i], 1, fitting);
    found.hosts.push_back({.name = names[i], .slots = slots, .cores = cores[i], .gpus = gpus[i]});
  }
  found.in_step = in_step(here);
  found.array_index = here.number("SLURM_ARRAY_TASK_ID", -1);
  found.requeues = here.number("SLURM_RESTART_COUNT", 0);
  return found;
}

std::string comma_list(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, ","));
}

/// Slurm keeps cores and memory of the ranks of a lost host allocated, on all hosts of their step, until it
/// declares that host down: ranks that are started after them share both. So do ranks that are started from a
/// step, which has cores of its own.
constexpr std::array kShareWithEarlier{"--overlap", "--mem=0"};

std::string srun_mpi(const LaunchSpec& spec) {
  return spec.mpi.empty() ? std::string(default_srun_mpi(spec.library)) : spec.mpi;
}

Rendered render_srun(const LaunchSpec& spec, const Allocation& allocation, const std::vector<Host>& hosts) {
  const std::string type = srun_mpi(spec);
  check_srun_mpi(spec.library, type);
  std::vector<std::string> words{"srun", fmt::format("--nodes={}", hosts.size()),
                                 fmt::format("--ntasks={}", total_ranks(hosts))};
  if (const int64_t even = even_ranks(hosts); even > 0)
    words.push_back(fmt::format("--ntasks-per-node={}", even));
  if (hosts.size() < allocation.hosts.size()) {
    std::vector<std::string> names;
    names.reserve(hosts.size());
    for (const Host& host : hosts) names.push_back(host.name);
    words.push_back("--nodelist=" + comma_list(names));
  }
  int64_t cores = spec.cores_per_rank;
  if (cores == 0 && allocation.cores_per_rank > 0) {
    cores = allocation.cores_per_rank;
    // More ranks than the job's tasks share its cores.
    for (const Host& host : hosts) {
      if (host.cores > 0) cores = std::min(cores, std::max<int64_t>(1, host.cores / host.slots));
    }
  }
  if (cores > 0) words.push_back(fmt::format("--cpus-per-task={}", cores));
  words.push_back("--mpi=" + type);
  // The supervisor ends the other ranks after one has failed: it reads the failure in srun's messages, and
  // srun kills the others on SIGTERM. Slurm itself would request a checkpoint, which they cannot save, and
  // then wait for KillWait, by default 30 s.
  words.emplace_back("--kill-on-bad-exit=0");
  if (spec.restarted || allocation.in_step)
    words.insert(words.end(), kShareWithEarlier.begin(), kShareWithEarlier.end());
  std::vector<std::string> names = spec.forwarded;
  Rendered rendered;
  if (type.starts_with("pmix")) {
    // With the default fence of Slurm 22.05 a rank sometimes leaves MPI_Init before another has entered it,
    // and crashes.
    rendered.variables = {{"SLURM_PMIX_FENCE", "ring"}};
    names.emplace_back("SLURM_PMIX_FENCE");
  }
  words.push_back("--export=" + comma_list(names));
  const std::vector<std::string> command = rank_command(spec);
  words.insert(words.end(), command.begin(), command.end());
  rendered.argv = std::move(words);
  rendered.check = {.argv = {"srun", "--mpi=list"},
                    .verify = [](const LaunchSpec& checked, std::string_view printed) {
                      check_srun_offers(checked.library, srun_mpi(checked), printed);
                    }};
  return rendered;
}

Rendered render_mpirun(const LaunchSpec& spec, const Allocation& allocation, const std::vector<Host>& hosts) {
  require_usage(spec.mpi.empty(), "--mpi={} is for srun, not for --starter mpirun", spec.mpi);
  require(!allocation.in_step || hosts.size() == 1,
          "--starter mpirun: inside a step, such as the shell of `srun --pty`, mpirun sees that step's hosts "
          "only. Use --starter srun, or call tutti in the shell of salloc or in a batch script");
  // mpirun has the hosts from Slurm; a file is needed if not all of them are to be used.
  MpirunOptions options;
  if (spec.restarted || allocation.in_step)
    options.parameters.emplace_back("plm_slurm_args", fmt::format("{}", fmt::join(kShareWithEarlier, " ")));
  Rendered rendered;
  bool oversubscribed = hosts.size() != allocation.hosts.size();
  for (size_t i = 0; i < hosts.size() && !oversubscribed; ++i) {
    oversubscribed = hosts[i].slots > allocation.hosts[i].slots;
  }
  if (oversubscribed) {
    options.host_file = spec.run_directory + "/launch.hosts";
    options.oversubscribe = true;
    rendered.files.push_back({options.host_file, host_file_text(spec, hosts)});
  }
  rendered.argv = mpirun_command(spec, hosts, options);
  return rendered;
}

Rendered render_inside(const LaunchSpec& spec, const Allocation& allocation) {
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  return spec.starter == "mpirun" ? render_mpirun(spec, allocation, hosts)
                                  : render_srun(spec, allocation, hosts);
}

std::string dependencies(const LaunchSpec& spec) {
  std::vector<std::string> all;
  if (!spec.after.empty()) all.push_back(fmt::format("afterany:{}", fmt::join(spec.after, ":")));
  if (!spec.after_ok.empty()) all.push_back(fmt::format("afterok:{}", fmt::join(spec.after_ok, ":")));
  return comma_list(all);
}

Directives sbatch_directives(const LaunchSpec& spec, const std::vector<Host>& hosts) {
  Directives lines("#SBATCH");
  const auto number = [&](std::string_view option, int64_t value) {
    if (value > 0) lines.add(fmt::format("{}{}", option, value));
  };
  lines.add("--job-name=" + spec.name);
  lines.add_if("--account=", spec.account);
  lines.add_if("--partition=", spec.partition);
  lines.add_if("--qos=", spec.qos);
  number("--nodes=", static_cast<int64_t>(hosts.size()));
  number("--ntasks-per-node=", even_ranks(hosts));
  number("--cpus-per-task=", spec.cores_per_rank);
  number("--gpus-per-node=", spec.gpus_per_node);
  lines.add_if("--time=", spec.time_limit_s > 0 ? clock_text_with_days(spec.time_limit_s) : "");
  if (spec.time_limit_s > 0) number("--signal=B:USR1@", spec.grace_s);
  // The supervisor removes a failed node from the job. If its own node fails, Slurm starts the job again.
  // --no-kill would leave a job without processes.
  lines.add(spec.requeue || spec.restarts > 0 ? "--requeue" : "--no-requeue");
  if (!spec.sweep.empty()) {
    lines.add(fmt::format("--array=0-{}{}", spec.sweep_size() - 1,
                          spec.sweep_limit > 0 ? fmt::format("%{}", spec.sweep_limit) : ""));
  }
  lines.add_if("--dependency=", dependencies(spec));
  lines.add_if("--exclude=", comma_list(spec.exclude));
  check_directive_path(spec.run_directory, "Slurm", " ");
  lines.add(
      fmt::format("--output=\"{}/launch-{}.log\"", spec.run_directory, spec.sweep.empty() ? "%j" : "%A_%a"));
  lines.add("--open-mode=append");
  lines.add(fmt::format("--export={}", spec.forwarded.empty() ? "NONE" : comma_list(spec.forwarded)));
  for (const std::string& directive : spec.directives) lines.add(directive);
  return lines;
}

Rendered render_slurm(const LaunchSpec& spec, const Allocation& allocation) {
  if (allocation.place == Allocation::Place::kInside) return render_inside(spec, allocation);
  // Checked before the job is queued.
  if (!spec.mpi.empty()) check_srun_mpi(spec.library, spec.mpi);
  const std::string path = script_path(spec, "sbatch");
  const std::vector<Host> hosts = placed_hosts(spec, allocation);
  const Directives directives = sbatch_directives(spec, hosts);
  const std::vector<std::string> submit{"sbatch", "--parsable", path};
  return {.files = {{path, job_script(with_size(spec, hosts), directives, script_line(submit, "run.dir"),
                                      LimitSignal::kByScheduler)}},
          .argv = submit,
          .submits = true};
}

/// Of lines such as "KillWait  = 30 sec" and "SlurmctldHost[0] = head(10.1.0.1)" of `scontrol show config`.
SchedulerSettings slurm_settings(std::string_view text) {
  SchedulerSettings settings{.kill_wait_name = "KillWait"};
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    std::string sign;
    std::string value;
    if (!(words >> name >> sign >> value) || sign != "=") continue;
    if (name.starts_with("SlurmctldHost[")) {
      const size_t open = value.find('(');
      const std::string host = open != std::string::npos && value.ends_with(')')
                                   ? value.substr(open + 1, value.size() - open - 2)
                                   : value;
      // The first of several names of a service.
      const std::string first = host.substr(0, host.find(','));
      if (is_host_name(first)) settings.controllers.push_back(first);
    } else if (name == "KillWait") {
      int64_t seconds = 0;
      if (std::from_chars(value.data(), value.data() + value.size(), seconds).ec == std::errc())
        settings.kill_wait_s = static_cast<double>(seconds);
    }
  }
  return settings;
}

/// `sbatch --parsable` prints "1234" or, of a federation, "1234;cluster".
std::string_view parse_id(std::string_view printed) {
  const std::string_view line = last_line(printed);
  return line.substr(0, line.find(';'));
}

/// Those with numbers, "4711.2", in lines that may also hold "4711.batch" and "4711.extern".
std::vector<std::string> parse_steps(std::string_view printed) {
  std::vector<std::string> steps;
  std::istringstream words{std::string(printed)};
  for (std::string step; words >> step;) {
    const size_t dot = step.rfind('.');
    const bool numbered = dot != std::string::npos && dot + 1 < step.size() &&
                          step.find_first_not_of("0123456789", dot + 1) == std::string::npos;
    if (numbered && is_plain_word(step)) steps.push_back(step);
  }
  return steps;
}

/// With SLURM_JOBID, scontrol writes a script of variables into the working directory.
ShrinkCommand shrink_slurm(const std::string& job, const std::vector<std::string>& kept) {
  return {.argv = {"scontrol", "update", "JobId=" + job, "NodeList=" + comma_list(kept)},
          .unset = {"SLURM_JOBID"}};
}

/// "/slurm/uid_0/job_7" of "/slurm/uid_0/job_7/step_batch".
std::string_view job_group(std::string_view group) {
  const size_t job = group.find("/job_");
  return job == std::string_view::npos ? "" : group.substr(0, group.find('/', job + 1));
}

}  // namespace

extern const Adapter kSlurmAdapter{
    .name = "slurm",
    .summary = "srun or mpirun in a job, sbatch outside",
    .detect = &detect_slurm,
    .render = &render_slurm,
    .job_ids = {.examples = "1234 or 1234_7", .parse = &parse_id},
    .commands = {.list = {"squeue", "--me"},
                 .status = {"squeue", "--noheader", "--jobs"},
                 .is_unknown = [](std::string_view message) { return contains(message, "nvalid job id"); },
                 .cancel = {"scancel"},
                 .requeue = {"scontrol", "requeue"},
                 .steps = {"squeue", "--noheader", "--steps", "--format=%i", "--jobs"},
                 .parse_steps = &parse_steps,
                 .end_step = {"scancel", "--signal=KILL"},
                 .restarts = {"squeue", "--noheader", "--Format=restartcnt", "--jobs"},
                 .settings = {"scontrol", "show", "config"},
                 .array_log = [](int64_t index) { return fmt::format("_{}.log", index); }},
    .parse_settings = &slurm_settings,
    .shrink = &shrink_slurm,
    .parse_message = &parse_slurm_message,
    .job_group = &job_group,
    .daemons = {"slurmstepd", "slurmd"},
    .memory_option = "--directive=--mem=64G",
    // A shell inside an allocation is bound to cores that are not all of the job's.
    .variables = {.job_id = "SLURM_JOB_ID",
                  .recorded = {"SLURM_JOB_NODELIST", "SLURM_NTASKS", "SLURM_JOB_NAME"},
                  .prefixes = {"SLURM_", "SBATCH_", "SRUN_", "SQUEUE_"},
                  .withheld = {"SLURM_CPU_BIND", "SLURM_MEM_BIND"}},
    .starter = {.name = "srun",
                .rank = "SLURM_PROCID",
                .size = "SLURM_STEP_NUM_TASKS",
                .shell = "SLURM_PTY_PORT",
                .advice =
                    [](const MpiLibrary& library) {
                      return fmt::format("srun --mpi={}", default_srun_mpi(library));
                    }},
    .requeue_summary = "queued again at the time limit, after preemption and after a lost host"};

}  // namespace tutti
