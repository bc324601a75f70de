#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/allocation.h"
#include "launcher/launch/surroundings.h"

#include <iosfwd>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace tutti {

/// What a supervisor asks of the scheduler whose job it runs in. Outside of jobs, and where the scheduler has
/// no command for it, nothing happens.
class JobControl {
 public:
  JobControl(const Adapter& adapter, const Allocation& allocation, const Surroundings& here,
             std::ostream& err);

  /// Nothing is known where the scheduler does not answer.
  [[nodiscard]] SchedulerFacts facts() const;
  /// The steps of ranks of the job.
  [[nodiscard]] std::set<std::string> steps() const;
  /// Ends, at once, steps that were not there `before`.
  void end_steps(const std::set<std::string>& before) const;
  /// Takes all hosts but `kept` out of the job, so that it does not end with them. Returns whether it did.
  bool keep_only(const std::vector<std::string>& kept) const;
  /// How often the scheduler has queued the job again so far; nullopt if it does not say.
  [[nodiscard]] std::optional<int64_t> restarts() const;
  /// Whether the scheduler can queue the job again.
  [[nodiscard]] bool can_requeue() const;
  /// Queues the job again. Returns the scheduler's words if it does not, else nothing.
  [[nodiscard]] std::string requeue() const;
  /// Where a job cannot be queued again: submits its script to begin after it. Returns the new job's id; says
  /// why it has none, and returns nothing.
  [[nodiscard]] std::string submit_again(const LaunchSpec& spec) const;

 private:
  [[nodiscard]] bool in_job() const;
  /// A command about this job.
  [[nodiscard]] std::vector<std::string> about_job(const std::vector<std::string>& command) const;

  const Adapter& adapter_;
  const Allocation& allocation_;
  const Surroundings& here_;
  std::ostream& err_;
};

}  // namespace tutti
