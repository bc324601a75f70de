#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/exit_status.h"
#include "launcher/launch/job_control.h"

#include <cstdint>
#include <iosfwd>
#include <map>
#include <set>
#include <string>

namespace tutti {

class LaunchRecord;
struct StopRequest;

/// Time-outs and intervals of the supervisor.
struct Timeouts {
  double first_wait_s = 2;  ///< before the first restart; doubles after each attempt without a new checkpoint
  double max_wait_s = 60;
  double term_s = 5;              ///< between SIGTERM and SIGKILL
  double request_interval_s = 2;  ///< before the first request to save, which would end a program that is
                                  ///< still starting, and between requests, which may be missed
  double requeue_s = 60;          ///< for a scheduler to end a job that it has queued again
  double host_loss_s = 2;         ///< for mpirun or srun to end by itself after it has reported a lost host
  double rank_failure_s = 1;      ///< for ranks to end by themselves after one has failed
  double exit_s = 2;              ///< for processes of ranks that ended without an error to exit
  double isolated_s = 3600;       ///< for the job of an isolated host to be queued again
};

/// Whether ranks that ended like this are started again: after crashes, kills and lost hosts; after an error
/// of the program only if the attempt saved a checkpoint, because otherwise the error would repeat; never
/// after a request to stop.
bool is_restartable(const ExitStatus& exit_status, bool saved_meanwhile);

/// Seconds before restart number `restart` (from 1) in a row without a new checkpoint.
double wait_before_restart_s(const Timeouts& timeouts, int64_t restart);

/// Supervises the ranks of a launch: starts them as `adapter` renders it, forwards signals, restarts them
/// from the last checkpoint up to spec.restarts times, and writes launch.json in spec.run_directory.
///
/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 ask the ranks to save and stop; those that still run after
/// spec.grace_s are killed, immediately on a second SIGINT or SIGTERM. The same happens grace_s before a time
/// limit that the supervisor enforces. When the program that started the ranks has ended, its remaining
/// processes on this machine are killed, and its step of a scheduler's job if it was killed. After one rank
/// has failed, the others are ended within seconds. A host on which ranks failed twice, or that was lost, is
/// excluded if others remain; a lost one is released to the scheduler. If neither another host nor the
/// scheduler can be reached, this host is isolated: its ranks are ended, no host is excluded, and the job
/// waits to be queued again.
class Supervisor {
 public:
  Supervisor(const Adapter& adapter, LaunchSpec spec, Allocation allocation, const Environment& here,
             std::ostream& err, const Timeouts& timeouts = {});

  /// Runs until the launch has ended. Throws Error if the ranks cannot be started at all.
  ExitStatus run();

 private:
  class Attempt;
  void exclude_failing_hosts(const ExitStatus& exit_status, std::map<std::string, int64_t>& failures);
  void release(const std::vector<std::string>& lost);
  [[nodiscard]] bool should_requeue(const ExitStatus& exit_status, const StopRequest& stop) const;
  bool requeue(LaunchRecord& record, StopRequest& stop);
  void wait_for_requeue(StopRequest& stop);
  ExitStatus conclude(ExitStatus exit_status, LaunchRecord& record, StopRequest& stop);

  const Adapter& adapter_;
  LaunchSpec spec_;
  Allocation allocation_;
  const Environment& here_;
  std::ostream& err_;
  Timeouts timeouts_;
  JobControl control_;
  SchedulerSettings settings_;
  std::set<std::string> released_;  ///< hosts that are no longer part of the job
  std::string first_checkpoint_;
};

}  // namespace tutti
