#pragma once

#include "launcher/launch/allocation.h"
#include "launcher/launch/mpi_library.h"

#include <cstdint>
#include <string>
#include <vector>

namespace tutti {

/// One setting that a sweep tries several values of.
struct SweepAxis {
  std::string key;  ///< of the run file
  std::vector<std::string> values;
};

/// What a launch is to run and on what; the same for all schedulers.
struct LaunchSpec {
  // Size; 0: as the allocation has it, or one.
  int64_t nodes = 0;
  int64_t ranks_per_node = 0;
  int64_t gpus_per_node = 0;
  int64_t cores_per_rank = 0;

  // The job.
  std::string name = "tutti";
  int64_t time_limit_s = 0;  ///< 0: the scheduler's default
  int64_t grace_s = 60;      ///< time before the limit at which ranks are asked to save and stop
  bool requeue = false;      ///< a job that was preempted, or whose node failed, is queued again
  std::string account;
  std::string partition;  ///< or queue
  std::string qos;
  std::vector<std::string> after;       ///< jobs that must have ended before
  std::vector<std::string> after_ok;    ///< jobs that must have succeeded before
  std::vector<std::string> exclude;     ///< hosts to leave out
  std::vector<std::string> directives;  ///< further options for the scheduler, in its own syntax
  std::vector<SweepAxis> sweep;
  int64_t sweep_limit = 0;  ///< jobs of a sweep that may run at once; 0: all

  // How ranks start.
  std::string scheduler = "auto";
  std::string starter = "auto";   ///< inside Slurm: srun or mpirun
  std::string mpi;                ///< type of srun --mpi=; empty: what the MPI library needs
  std::string mpirun = "mpirun";  ///< name or path
  std::string interface;          ///< network in CIDR form that MPI's messages take; empty: MPI chooses
  std::string host_file;
  int64_t wait_s = -1;  ///< for hosts of a host file that do not answer yet; -1: as the adapter says
  std::vector<std::string>
      variables;  ///< names that the user wants passed on in addition to the default ones
  std::vector<std::string> forwarded;  ///< all names that go to the ranks
  bool restarted = false;              ///< ranks of this launch ran before, and some may not have ended yet
  bool batch = false;                  ///< in a job's script, which may be started again
  /// "on"; "strict": a slow host without a replacement ends the launch; "off": ranks start without a
  /// preflight of their hosts
  std::string preflight = "on";
  int64_t restarts = 0;  ///< times that the supervisor starts the ranks again

  // Kubernetes only.
  std::string image;
  std::string kube_namespace;  ///< empty: as kubectl is set up
  std::string volume;          ///< persistent volume claim that is mounted at the working directory

  // What runs, and where its files go.
  std::string executable;            ///< absolute path of tutti
  std::vector<std::string> command;  ///< "train", "run.yaml", ...
  std::string working_directory;     ///< absolute
  std::string run_directory;         ///< absolute; launch.json, scripts and logs go there
  std::string
      submission_directory;  ///< of the whole sweep, where this is one combination; else run_directory
  MpiLibrary library;        ///< that tutti is built with

  /// Combinations of a sweep; 1 without one, the largest number where there are more.
  [[nodiscard]] int64_t sweep_size() const;
};

/// Throws Error naming the option if a value is impossible or a text is not
/// literal for a scheduler or a shell.
void check(const LaunchSpec& spec);

/// "optimizer.learning_rate=0.1,0.2" as an axis. Throws Error unless it is a key and values.
SweepAxis parse_sweep_axis(std::string_view text);

/// The command of one combination of the sweep: the axes' values as --set options and a run directory of its
/// own below `spec.run_directory`.
LaunchSpec combination(const LaunchSpec& spec, int64_t index);

/// The hosts that ranks run on, `slots` of them on each: the size that was asked for, out of what the
/// allocation has. Names are empty where the scheduler chooses them. Throws Error if it has less than that.
std::vector<Host> placed_hosts(const LaunchSpec& spec, const Allocation& allocation);

/// Messages about GPUs of the allocation that no rank of `hosts`, as placed, uses: one for hosts that are
/// equal. None if the user has chosen the number of ranks.
std::vector<std::string> idle_gpus(const LaunchSpec& spec, const std::vector<Host>& hosts);

/// Throws UsageError for --requeue, which needs a scheduler.
void refuse_requeue(const LaunchSpec& spec);

/// Ranks on all hosts.
int64_t total_ranks(const std::vector<Host>& hosts);

/// Ranks on each host, or 0 if they differ.
int64_t even_ranks(const std::vector<Host>& hosts);

/// `tutti` and the command, as each rank runs it.
std::vector<std::string> rank_command(const LaunchSpec& spec);

/// The same launch with an explicit size: inside a job, slots may count cores.
LaunchSpec with_size(const LaunchSpec& spec, const std::vector<Host>& hosts);

/// What signals the ranks before the time limit.
enum class LimitSignal : uint8_t { kByScheduler, kBySupervisor };

/// `tutti launch` with the options that matter inside the job, and the command: what a job script runs.
std::vector<std::string> inner_launch(const LaunchSpec& spec, LimitSignal signal);

}  // namespace tutti
