#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/allocation.h"
#include "launcher/launch/environment.h"

#include <iosfwd>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tutti {

/// The scheduler's commands about the job that a supervisor runs in. Outside of jobs, and where the scheduler
/// has no such command, the functions do nothing.
class JobControl {
 public:
  JobControl(const Adapter& adapter, const Allocation& allocation, const Environment& here,
             std::ostream& err);

  /// Empty if the scheduler does not answer.
  [[nodiscard]] SchedulerSettings settings() const;
  /// The steps of ranks of the job.
  [[nodiscard]] std::set<std::string> steps() const;
  /// Kills the steps that are not in `before`.
  void end_steps(const std::set<std::string>& before) const;
  /// Removes all hosts but `kept` from the job, so that it does not end with them. Returns whether it did.
  bool shrink_to(const std::vector<std::string>& kept) const;
  /// How often the scheduler has queued the job again; nullopt if that is not known.
  [[nodiscard]] std::optional<int64_t> restarts() const;
  /// Whether the scheduler can queue the job again.
  [[nodiscard]] bool can_requeue() const;
  /// Queues the job again. Returns the scheduler's message if that fails, else an empty text.
  [[nodiscard]] std::string requeue() const;
  /// Where a job cannot be queued again: submits its script to begin after it. Returns the new job's id, or
  /// an empty text after a message.
  [[nodiscard]] std::string submit_again(const LaunchSpec& spec) const;

 private:
  [[nodiscard]] bool in_job() const;
  /// A command about this job.
  [[nodiscard]] std::vector<std::string> about_job(const std::vector<std::string>& command) const;

  const Adapter& adapter_;
  const Allocation& allocation_;
  const Environment& here_;
  std::ostream& err_;
};

}  // namespace tutti
