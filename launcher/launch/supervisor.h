#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/ending.h"
#include "launcher/launch/job_control.h"

#include <cstdint>
#include <iosfwd>
#include <map>
#include <set>
#include <string>

namespace tutti {

class LaunchRecord;
struct Stop;

/// How long the supervisor waits for what.
struct Patience {
  double first_wait_s = 2;  ///< before the first restart; doubles with each that saved nothing new
  double most_wait_s = 60;
  double term_s = 5;   ///< between SIGTERM and SIGKILL
  double again_s = 2;  ///< before the first request to save, which would end a program that is only starting,
                       ///< and between two, of which it may miss one
  double requeue_s = 60;     ///< that a scheduler has to end a job that it has queued again
  double loss_s = 2;         ///< that mpirun or srun has to end by itself after it has named a lost host
  double death_s = 1;        ///< that ranks have to end by themselves when one has died
  double leave_s = 2;        ///< that processes of ranks which have ended well have to go away by themselves
  double isolated_s = 3600;  ///< that a host which is cut off waits for its job to be queued again
};

/// Whether ranks that ended like this are started again. Crashes, kills and lost hosts are; an error of the
/// program only if it saved a checkpoint meanwhile, because else it would come again; a requested end never.
bool worth_restarting(const Ending& ending, bool saved_meanwhile);

/// Seconds before restart number `restart` (from 1) in a row without a new checkpoint.
double wait_before_restart_s(const Patience& patience, int64_t restart);

/// Stays beside the ranks of a launch until they have ended for good: starts them as `adapter` renders it,
/// passes signals on, restarts them from the last checkpoint up to spec.restarts times, and writes
/// launch.json in spec.run_directory.
///
/// SIGTERM, SIGINT, SIGHUP and SIGUSR1 ask the ranks to save and stop; those that are still there after
/// spec.grace_s are ended, at once upon a second SIGINT or SIGTERM. The same happens grace_s before a time
/// limit that the supervisor is to keep. When the program that started the ranks has ended, nothing that it
/// left on this machine lives on, nor its step of a scheduler's job if it was killed. Ranks that a dead one
/// leaves behind are ended within seconds. A host that a rank died on twice, or that was lost, is left out if
/// others remain, and a lost one is given back to the scheduler. If no other host can be reached, nor the
/// scheduler, it is this one that is cut off: its ranks are ended, nobody is left out, and the job waits to
/// be queued again.
class Supervisor {
 public:
  Supervisor(const Adapter& adapter, LaunchSpec spec, Allocation allocation, const Surroundings& here,
             std::ostream& err, const Patience& patience = {});

  /// Runs to the end, which it returns. Throws Error if the ranks cannot be started at all.
  Ending run();

 private:
  class Attempt;
  void leave_out(const Ending& ending, std::map<std::string, int64_t>& failures);
  void release(const std::vector<std::string>& lost);
  [[nodiscard]] bool is_to_be_queued_again(const Ending& ending, const Stop& stop) const;
  bool requeue(LaunchRecord& record, Stop& stop);
  void wait_to_be_queued_again(Stop& stop);
  Ending conclude(Ending ending, LaunchRecord& record, Stop& stop);

  const Adapter& adapter_;
  LaunchSpec spec_;
  Allocation allocation_;
  const Surroundings& here_;
  std::ostream& err_;
  Patience patience_;
  JobControl control_;
  SchedulerFacts facts_;
  std::set<std::string> released_;  ///< hosts that are no longer part of the job
  std::string first_checkpoint_;
};

}  // namespace tutti
