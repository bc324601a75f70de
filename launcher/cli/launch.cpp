#include "launcher/cli/checks.h"
#include "launcher/cli/cli.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/launch_checks.h"
#include "launcher/info/libraries.h"
#include "launcher/launch/adapter.h"
#include "launcher/launch/blocked_signals.h"
#include "launcher/launch/duration.h"
#include "launcher/launch/jobs.h"
#include "launcher/launch/preflight_hosts.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/record.h"
#include "launcher/launch/submit.h"
#include "launcher/launch/supervisor.h"
#include "launcher/launch/wait_for_hosts.h"
#include "launcher/run/training.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>
#include "core/config/nearest.h"

#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct LaunchArguments {
  LaunchSpec spec;
  std::optional<std::string> time;
  std::string grace = "60s";
  std::optional<std::string> wait;
  std::vector<std::string> sweep;
  std::string dir;
  std::string mpirun;
  bool dry_run = false;
};

/// The run directory: --dir, or the run file's, which is thereby checked before anything is queued.
std::string run_directory(const LaunchArguments& options, const std::vector<std::string>& command) {
  std::string directory = options.dir;
  if (!command.empty() && command.front() == "train") {
    const RunSettings settings = read_settings(train_options(command));
    if (directory.empty()) directory = settings.run.dir;
  }
  if (directory.empty()) directory = "runs/launch";
  return fs::absolute(directory).lexically_normal().string();
}

/// This program's file, which the ranks run too.
std::string own_path() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  require(!error, "/proc/self/exe: {}", error.message());
  return path.string();
}

LaunchSpec complete(const LaunchArguments& options, const std::vector<std::string>& command,
                    const Environment& here) {
  LaunchSpec spec = options.spec;
  const auto duration = [](const char* option, const std::string& text) {
    return usage_of(option, [&] { return parse_duration_s(text); });
  };
  if (options.time) spec.time_limit_s = duration("--time", *options.time);
  spec.grace_s = duration("--grace", options.grace);
  if (options.wait) spec.wait_s = *options.wait == "0" ? 0 : duration("--wait", *options.wait);
  for (const std::string& axis : options.sweep) spec.sweep.push_back(parse_sweep_axis(axis));
  spec.command = command;
  spec.executable = own_path();
  std::error_code error;
  spec.working_directory = fs::current_path(error).string();
  require(!error, "the working directory does not exist ({}): change to another directory", error.message());
  spec.library = parse_mpi_library(mpi_library_version());
  if (!options.mpirun.empty()) spec.mpirun = options.mpirun;
  check(spec);
  spec.forwarded = forwarded_names(here.variables);
  spec.forwarded.insert(spec.forwarded.end(), spec.variables.begin(), spec.variables.end());
  spec.forwarded.emplace_back("TUTTI_LAUNCH_RANKS");
  std::sort(spec.forwarded.begin(), spec.forwarded.end());
  spec.forwarded.erase(std::unique(spec.forwarded.begin(), spec.forwarded.end()), spec.forwarded.end());
  spec.run_directory = run_directory(options, command);
  spec.submission_directory = spec.run_directory;
  check(spec);
  return spec;
}

void print_plan(const Rendered& rendered, std::ostream& out) {
  for (const LaunchFile& file : rendered.files) out << "# " << file.path << '\n' << file.text << '\n';
  for (const auto& [name, value] : rendered.variables) out << name << '=' << shell_word(value) << ' ';
  out << shell_line(rendered.argv);
  if (!rendered.input.empty()) out << " < " << shell_word(rendered.input);
  out << '\n';
}

/// Runs the combinations of a sweep one after the other; returns the first exit status that is not a success.
ExitStatus run_each(const Detected& found, const LaunchSpec& spec, const Environment& here,
                    std::ostream& err) {
  ExitStatus first{};
  for (int64_t i = 0; i < spec.sweep_size(); ++i) {
    const LaunchSpec one = spec.sweep.empty() ? spec : combination(spec, i);
    const ExitStatus exit_status = Supervisor(*found.adapter, one, found.allocation, here, err).run();
    if (first.exit_code == 0) first = exit_status;
    if (exit_status.reason == ExitStatus::Reason::kPreempted ||
        exit_status.reason == ExitStatus::Reason::kStopped)
      break;
  }
  return first;
}

/// Records in launch.json that the launch has ended before its ranks began.
void record_failure(const Detected& found, const LaunchSpec& spec, const Environment& here,
                    std::ostream& err) {
  try {
    LaunchRecord record(spec,
                        {.scheduler = std::string(found.adapter->name),
                         .job_id = found.allocation.job_id,
                         .state = "running",
                         .supervisor = getpid(),
                         .host = here.host},
                        err);
    record.end({.reason = ExitStatus::Reason::kError, .exit_code = static_cast<int>(ExitCode::kError)});
  } catch (const Error&) {
    // The cause is reported anyway; it may be that the directory cannot be written.
  }
}

/// Runs the preflight, then the command on the hosts that pass it.
ExitStatus run_all(const Detected& found, const LaunchSpec& asked, const Environment& here,
                   std::ostream& err) {
  std::error_code error;
  fs::create_directories(asked.run_directory, error);
  require(!error, "{}: cannot be created: {}", asked.run_directory, error.message());
  LaunchSpec spec = asked;
  try {
    wait_for_hosts(*found.adapter, asked, found.allocation, here, err);
    const BlockedSignals blocked;  // a request to stop during preflight is for the ranks
    if (asked.command.front() == "train" && asked.preflight != "off") {
      spec = preflight_hosts(*found.adapter, asked, found.allocation, here,
                             train_options(asked.command).run_file.string(), err);
    }
    return run_each(found, spec, here, err);
  } catch (const Error&) {
    record_failure(found, asked, here, err);
    throw;
  }
}
ExitCode launch(const LaunchArguments& options, const std::vector<std::string>& command, Console& console) {
  Environment here = this_environment();
  if (const std::optional<int64_t> index = own_rank(here)) {
    if (*index != 0) return ExitCode::kUsage;  // rank 0 prints the message
    fail_usage("`tutti launch` starts the ranks itself: call it once, not under mpirun or srun");
  }
  if (!command.empty()) {
    // Before it is queued: each rank would refuse it.
    CommandLine of_ranks;
    if (const std::optional<ExitCode> ended = of_ranks.parse(command, console)) return *ended;
  }
  LaunchSpec spec = complete(options, command, here);
  check_variables(spec, here);
  if (!spec.host_file.empty()) here.variables["TUTTI_HOST_FILE"] = spec.host_file;
  const Detected found = detect(here, spec);
  check_dependencies(found.adapter->job_ids, spec);
  if (found.allocation.array_index >= 0 && !spec.sweep.empty())
    spec = combination(spec, found.allocation.array_index);
  check_combinations(spec);
  // A job finds it on its own hosts.
  if (options.mpirun.empty() && found.allocation.place != Allocation::Place::kLogin)
    spec.mpirun = mpirun_name(spec.library, here.has_program);
  // Only set for the ranks of a launch; some schedulers refuse a job that names a variable which is not set.
  if (found.allocation.place == Allocation::Place::kLogin) {
    std::erase(spec.forwarded, "TUTTI_LAUNCH_RANKS");
    withhold_secrets(spec, here, console.err);
  } else {
    choose_progress(spec);
  }
  const Rendered rendered = found.adapter->render(spec, found.allocation);
  if (found.adapter->mounts_volume) check_volume(spec, console.err);
  if (options.dry_run) {
    print_plan(rendered, console.out);
    return ExitCode::kDone;
  }
  for (const std::string& line : idle_gpus(spec, placed_hosts(spec, found.allocation))) {
    console.err << fmt::format("tutti: warning: {}\n", line) << std::flush;
  }
  check_tools(spec, rendered, here);
  // Inside a job, a later job may already use the directory.
  if (found.allocation.place != Allocation::Place::kInside) check_unused(spec, here);
  // A script must not fail because of files that it finds when its job begins.
  if (!spec.batch) check_own_files(spec, rendered);
  if (rendered.submits) {
    warn_of_missing_inputs(command, console.err);
    submit(*found.adapter, spec, rendered, here, console.out, console.err);
    return ExitCode::kDone;
  }
  return static_cast<ExitCode>(run_all(found, spec, here, console.err).exit_code);
}

void add_options(CLI::App& app, LaunchArguments& o) {
  LaunchSpec& s = o.spec;
  app.add_option("--nodes", s.nodes, "Machines; default: all of the allocation, or one")
      ->check(between_numbers(0));
  app.add_option("--ranks-per-node", s.ranks_per_node,
                 "Default: one a GPU, else as the allocation says, else one")
      ->check(between_numbers(0));
  app.add_option("--gpus-per-node", s.gpus_per_node, "GPUs to ask for")->check(between_numbers(0));
  app.add_option("--cores-per-rank", s.cores_per_rank, "Cores to ask for")->check(between_numbers(0));
  app.add_option("--time", o.time, "Time limit: 90s, 45m, 2h, 1d12h, 1:30:00");
  app.add_option("--grace", o.grace, "Time before the limit, and after a stop signal, in which ranks save")
      ->capture_default_str();
  app.add_option("--preflight", s.preflight,
                 "Brief `tutti preflight` before training. on: exclude bad hosts, and slow ones if others "
                 "can replace them; strict: fail if a slow host is needed; off")
      ->capture_default_str();
  app.add_option(
         "--restarts", s.restarts,
         "Start the ranks again from the last checkpoint, at most N times; Slurm queues the job again "
         "if its first host is lost")
      ->check(between_numbers(0));
  app.add_flag("--requeue", s.requeue,
               "Requeue the job at its time limit, after preemption or a node failure; see below");
  app.add_option("--name", s.name, "Name of the job")->capture_default_str();
  app.add_option("--account", s.account, "Account to charge");
  app.add_option("--partition,--queue", s.partition, "Partition or queue");
  app.add_option("--qos", s.qos, "Quality of service");
  app.add_option("--after", s.after, "Begin when this job has ended; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--after-ok", s.after_ok, "Begin when this job has succeeded; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--exclude", s.exclude, "Exclude a host; may be repeated")->allow_extra_args(false);
  app.add_option("--directive", s.directives,
                 "An option of the scheduler itself: --directive=--constraint=a100; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--sweep", o.sweep,
                 "Values of a key: KEY=V1,V2; a job for each combination; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--sweep-limit", s.sweep_limit, "Jobs of a sweep that may run at once")
      ->check(between_numbers(0));
  app.add_option("--scheduler", s.scheduler, "auto or one of the names below")->capture_default_str();
  app.add_option("--starter", s.starter, "Inside Slurm: auto, srun or mpirun")->capture_default_str();
  app.add_option("--mpi", s.mpi, "Type of srun --mpi=; default: what this program's MPI needs");
  app.add_option("--mpirun", o.mpirun, "Name or path of mpirun; default: that of this program's MPI");
  app.add_option("--interface", s.interface, "Network for MPI's messages, such as 10.1.0.0/16");
  app.add_option("--host-file", s.host_file, "Machines without a scheduler: a file of lines `node1 slots=4`");
  app.add_option("--wait", o.wait,
                 "Time for machines of a host file to answer; default: 60s, 10m for Kubernetes' pods");
  app.add_option("--env", s.variables, "A variable to pass in addition to the default ones; may be repeated")
      ->allow_extra_args(false);
  app.add_option("--image", s.image, "Kubernetes: container image that holds tutti");
  app.add_option("--namespace", s.kube_namespace, "Kubernetes: namespace")->capture_default_str();
  app.add_option("--volume", s.volume, "Kubernetes: claim to mount at the working directory");
  app.add_option("--dir", o.dir, "Where launch.json, script and log go; default: the run directory");
  app.add_flag("--batch", s.batch,
               "In a job's script, which `tutti launch` writes: when started again, the run is resumed");
  app.add_flag("--dry-run", o.dry_run, "Print the files and the command, without writing or running them");
}

/// What --requeue does under each scheduler, a line for all that do the same.
std::string requeue_summaries() {
  std::vector<std::pair<std::string_view, std::string>> lines;
  for (const Adapter* adapter : adapters()) {
    const auto same = std::find_if(lines.begin(), lines.end(),
                                   [&](const auto& line) { return line.first == adapter->requeue_summary; });
    if (same == lines.end()) {
      lines.emplace_back(adapter->requeue_summary, adapter->name);
    } else {
      same->second += fmt::format(", {}", adapter->name);
    }
  }
  std::string text;
  for (const auto& [summary, names] : lines) text += fmt::format("\n  {:<23}{}", names, summary);
  return text;
}

constexpr std::string_view kRequeue = R"(

A job that starts again continues from its last checkpoint. --requeue:)";

constexpr std::string_view kExitCodes = R"(

Exit codes beside those of `tutti --help`:
  128 + n   signal n ended a rank; 137: it was killed, or its host was out of memory
  205       a host or the link to it was lost
  255       the ranks could not be started on all hosts)";

CommandAction setup_launch(CLI::App& app) {
  const auto options = std::make_shared<LaunchArguments>();
  add_options(app, *options);
  std::string schedulers;
  for (const Adapter* adapter : adapters()) {
    schedulers += fmt::format("\n  {:<12}{}", adapter->name, adapter->summary);
  }
  app.footer(app.get_footer() + "\n\nSchedulers:" + schedulers + std::string(kRequeue) + requeue_summaries() +
             std::string(kExitCodes));
  app.prefix_command();
  return [options, &app](Console& console) {
    const std::vector<std::string> command = app.remaining();
    if (!command.empty() && command.front().starts_with('-')) {
      const std::string name = command.front().substr(0, command.front().find('='));
      std::vector<std::string> names;
      for (const CLI::Option* option : app.get_options()) {
        for (const std::string& known : option->get_lnames()) names.push_back("--" + known);
      }
      print_error(
          fmt::format("unknown option '{}'{} (see `tutti launch --help`)", name, did_you_mean(name, names)),
          console.err);
      return ExitCode::kUsage;
    }
    return launch(*options, command, console);
  };
}

}  // namespace

const Command kLaunchCommand{
    "launch", "Start a command on many ranks, here or as a job",
    R"(  tutti launch --ranks-per-node 2 train run.yaml            # this machine, or the job around it
  tutti launch --nodes 4 --gpus-per-node 8 --time 2h train run.yaml   # on a login node: a job
  tutti launch --nodes 4 --gpus-per-node 8 --time 2h --dry-run train run.yaml
  tutti launch --restarts 3 --requeue --nodes 2 --time 1d train run.yaml
  tutti launch --sweep optimizer.learning_rate=0.001,0.003 --time 1h train run.yaml)",
    &setup_launch};

}  // namespace tutti
