#pragma once

#include "launcher/launch/allocation.h"
#include "launcher/launch/environment.h"
#include "launcher/launch/failure_message.h"
#include "launcher/launch/job_id.h"
#include "launcher/launch/spec.h"

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// The beginning of a line of every file that a launch writes, except its record: later launches may replace
/// the file.
inline constexpr std::string_view kLaunchMark = "# Written by `tutti launch`";

/// A file that a launch writes before it starts or submits anything. A line of `text` begins with
/// kLaunchMark.
struct LaunchFile {
  std::string path;
  std::string text;
};

/// A command whose output shows whether the programs of a launch fit the MPI that this program is built with.
struct ToolCheck {
  std::vector<std::string> argv;
  /// Throws Error with advice if they do not. nullptr: there is nothing to check.
  void (*verify)(const LaunchSpec& spec, std::string_view printed) = nullptr;
};

/// What a launch does: files to write, then one program to start.
struct Rendered {
  std::vector<LaunchFile> files;
  Variables variables;            ///< set for the program, in addition to its environment
  std::string input;              ///< file that the program reads as its standard input; empty: nothing
  std::vector<std::string> argv;  ///< never goes through a shell
  bool submits = false;           ///< the program queues a job and prints its id; otherwise it is the job
  ToolCheck check;                ///< in addition to that of mpirun
};

/// Which part of a job's output to print.
struct LogOptions {
  bool follow = false;  ///< until the job has ended
  int64_t lines = -1;   ///< the last ones only; -1: all
};

/// The scheduler's own commands. All but `list` and `settings` take a job's id as their last argument; empty
/// where a scheduler has none.
struct JobCommands {
  std::vector<std::string> list;    ///< the caller's jobs
  std::vector<std::string> status;  ///< prints the state of a job
  /// Whether the job is pending or running, by what `status` printed; nullptr: if it printed anything.
  bool (*is_active)(std::string_view printed) = nullptr;
  /// Whether the message of a `status` that failed means that there is no such job, and not that the
  /// scheduler cannot be reached. nullptr: no message does.
  bool (*is_unknown)(std::string_view message) = nullptr;
  std::vector<std::string> cancel;
  std::vector<std::string> requeue;
  /// Where a job cannot be queued again: submits its script, to begin when the job has ended. Prints the id
  /// of the new job. "{job}" is replaced by the job's id, "{directory}" by that of the submission.
  std::vector<std::string> submit_after;
  int requeue_code = 0;  ///< exit code on which the scheduler queues the job again; 0: none
  /// Prints the steps of a job, which `cancel` ends too: where ranks may outlive the program that started
  /// them.
  std::vector<std::string> steps;
  /// The steps of ranks in what that prints.
  std::vector<std::string> (*parse_steps)(std::string_view printed) = nullptr;
  std::vector<std::string> end_step;  ///< kills a step: its ranks have no time to save
  std::vector<std::string> restarts;  ///< prints how often the job has been queued again
  std::vector<std::string> settings;  ///< prints what `parse_settings` reads; takes no job
  /// The command that prints a job's output. nullptr: it is in a file launch-*.log of the run directory.
  std::vector<std::string> (*logs)(const std::string& id, const LogOptions& options) = nullptr;
  /// A part of the name of the log of job `index` of an array, such as "_3.log". Its first character is not
  /// in the names of other logs. nullptr: there are no arrays.
  std::string (*array_log)(int64_t index) = nullptr;
};

/// Settings of a scheduler that a supervisor depends on.
struct SchedulerSettings {
  std::vector<std::string> controllers;  ///< hosts or addresses of its controllers, which run no jobs
  double kill_wait_s = 0;                ///< between SIGTERM and SIGKILL when it ends a job; 0: not known
  std::string_view kill_wait_name;       ///< of the setting
};

/// The environment variables of a scheduler.
struct SchedulerVariables {
  std::string_view job_id;                 ///< of the job that a rank belongs to
  std::vector<std::string_view> recorded;  ///< in the manifest of a run, in addition to the job's id
  std::vector<std::string_view> prefixes;  ///< of those that the scheduler's commands read
  std::vector<std::string_view> names;     ///< other variables that they read
  std::vector<std::string_view> withheld;  ///< prefixes of those that they must not read
};

/// A scheduler's own program that starts ranks, such as srun.
struct RankStarter {
  std::string_view name;   ///< for --starter; empty: there is no choice
  std::string_view rank;   ///< variable with the rank of a process
  std::string_view size;   ///< variable with the number of ranks
  std::string_view shell;  ///< variable that is set in an interactive shell, which is no rank
  /// The command that starts ranks of a library. With it, the number of ranks is compared with MPI's.
  std::string (*advice)(const MpiLibrary& library) = nullptr;
};

/// A command, and variables that are taken out of its environment.
struct ShrinkCommand {
  std::vector<std::string> argv;
  std::vector<std::string> unset;
};

/// One scheduler, or another way to start ranks. All functions are pure: they depend on nothing but their
/// arguments. The members are all that is specific to a scheduler: a new one is a file in adapters/ and its
/// name in adapters.cpp. `name`, `summary`, `detect` and `render` are required, the others have a default.
struct Adapter {
  std::string_view name;     ///< of --scheduler
  std::string_view summary;  ///< a few words for the help
  /// The place of this process in the scheduler, and its allocation; nullopt if the scheduler is not used
  /// here.
  std::optional<Allocation> (*detect)(const Environment& here) = nullptr;
  /// The command that starts the ranks or, outside of a job, the script and the command that submits it.
  /// Throws Error if the scheduler does not support what `spec` requests.
  Rendered (*render)(const LaunchSpec& spec, const Allocation& allocation) = nullptr;
  JobIds job_ids;
  JobCommands commands;
  /// From what commands.settings prints.
  SchedulerSettings (*parse_settings)(std::string_view text) = nullptr;
  /// The command that reduces a running job to the hosts `kept`, so that it survives the loss of the others.
  ShrinkCommand (*shrink)(const std::string& job, const std::vector<std::string>& kept) = nullptr;
  /// What a line of its starter or daemons says of a failed rank.
  FailureMessage (*parse_message)(std::string_view line) = nullptr;
  /// The control group of a job, out of that of one of its steps; empty if it is no group of this scheduler.
  std::string_view (*job_group)(std::string_view group) = nullptr;
  std::vector<std::string_view> daemons;  ///< that send signals to its jobs: beginnings of process names
  std::string_view memory_option;         ///< of `tutti launch`, that requests more memory
  SchedulerVariables variables;
  RankStarter starter;
  /// Seconds that hosts may take to answer unless the user says otherwise. nullptr: hosts are up when a
  /// launch begins.
  int64_t (*host_wait_s)(const Environment& here) = nullptr;
  /// Hosts have the working directory from --volume, and all else from an image.
  bool mounts_volume = false;
  /// What --requeue does, for the help.
  std::string_view requeue_summary = "not possible; use --after and --resume, or --restarts";
};

/// All adapters, in the order of detection.
std::span<const Adapter* const> adapters();

/// The adapter of that name. Throws Error with the nearest name if there is none.
const Adapter& adapter_named(std::string_view name);

/// An adapter and the allocation that it detected.
struct Detected {
  const Adapter* adapter;
  Allocation allocation;
};

/// The adapter to use: the one that --scheduler names, or the first that detects a job, then --host-file,
/// then one that can submit, then this machine. Throws Error if there is no adapter of that name.
Detected detect(const Environment& here, const LaunchSpec& spec);

}  // namespace tutti
