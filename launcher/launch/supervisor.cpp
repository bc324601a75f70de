#include "launcher/launch/supervisor.h"

#include "launcher/launch/child.h"
#include "launcher/launch/host_failure.h"
#include "launcher/launch/messages.h"
#include "launcher/launch/record.h"
#include "launcher/launch/run_progress.h"
#include "launcher/launch/stop_request.h"
#include "launcher/overwrite.h"

#include <tutti/core/error.h>

#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <optional>
#include <ostream>
#include <thread>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Reason = ExitStatus::Reason;

constexpr int kTickMs = 100;
constexpr int64_t kFailuresOfABadHost = 2;
constexpr int kSavedCode = 75;  // of a rank that has saved on request

std::chrono::nanoseconds seconds(double s) {
  return std::chrono::nanoseconds(static_cast<int64_t>(s * 1e9));
}

std::string text_after(double s) {
  return s < 1 ? "at once" : fmt::format("in {:.0f} s", s);
}

}  // namespace

bool is_restartable(const ExitStatus& exit_status, bool saved_meanwhile) {
  switch (exit_status.reason) {
    case Reason::kKilled:
    case Reason::kSignal:
    case Reason::kHostLost:
    case Reason::kNotStarted:
      return true;
    case Reason::kOutOfMemory:
    case Reason::kError:
      return saved_meanwhile;
    case Reason::kDone:
    case Reason::kPreempted:
    case Reason::kStopped:
    case Reason::kIsolated:
    case Reason::kUsage:
      return false;
  }
  return false;
}

double wait_before_restart_s(const Timeouts& timeouts, int64_t restart) {
  constexpr int64_t kMostDoublings = 30;
  const auto doublings = static_cast<double>(std::clamp<int64_t>(restart - 1, 0, kMostDoublings));
  return std::min(timeouts.max_wait_s, timeouts.first_wait_s * std::exp2(doublings));
}

Supervisor::Supervisor(const Adapter& adapter, LaunchSpec spec, Allocation allocation,
                       const Environment& here, std::ostream& err, const Timeouts& timeouts)
    : adapter_(adapter),
      spec_(std::move(spec)),
      allocation_(std::move(allocation)),
      here_(here),
      err_(err),
      timeouts_(timeouts),
      control_(adapter_, allocation_, here_, err_) {}

/// The ranks of one attempt, from their start to their end.
class Supervisor::Attempt {
 public:
  Attempt(Supervisor& supervisor, const LaunchSpec& spec, StopRequest& stop, LaunchRecord& record)
      : s_(supervisor),
        spec_(spec),
        stop_(stop),
        hosts_(placed_hosts(spec, s_.allocation_)),
        rendered_(s_.adapter_.render(spec, s_.allocation_)),
        summary_before_(summary_time(spec.run_directory)),
        oom_before_(oom_kills_here()),
        steps_before_(s_.control_.steps()),
        messages_(s_.err_),
        detector_(hosts_, s_.settings_.controllers, s_.here_.host, s_.err_),
        child_(start(record)),
        next_request_(Clock::now() + seconds(s_.timeouts_.request_interval_s)) {}

  ExitStatus run() {
    std::optional<int> status;
    bool open = true;
    while (!(status = child_.poll_status())) {
      std::array<pollfd, 2> waits{pollfd{stop_.signals.descriptor(), POLLIN, 0},
                                  pollfd{open ? child_.err().number() : -1, POLLIN, 0}};
      (void)poll(waits.data(), waits.size(), kTickMs);
      if (open) open = messages_.pump(child_.err());
      detector_.check(child_, messages_.attribution(), s_.timeouts_.host_loss_s);
      end_orphaned_ranks();
      if (stop_.poll()) announce_stop();
      if (stop_.requested) request_checkpoint();
    }
    if (open) open = messages_.pump(child_.err());  // its last messages may name a lost host
    clean_up(*status);
    if (open) (void)messages_.pump(child_.err());
    // A scheduler that cancels a job signals all of its processes at once: the ranks may have ended first.
    (void)stop_.poll();
    return exit_status(*status);
  }

 private:
  Child start(LaunchRecord& record) {
    for (const LaunchFile& file : rendered_.files) write_or_overwrite(file.path, file.text);
    Variables variables = child_environment(s_.here_.variables, spec_.variables);
    for (const auto& [name, value] : rendered_.variables) variables[name] = value;
    variables["TUTTI_LAUNCH_RANKS"] = std::to_string(total_ranks(hosts_));
    record.begin_attempt(rendered_.argv, hosts_);
    return Child::start(rendered_.argv, variables, {.capture_err = true});
  }

  /// Ends the other ranks after one has failed: they wait for it in MPI and cannot save. They first have time
  /// to end by themselves. On SIGTERM, srun and mpirun kill them.
  void end_orphaned_ranks() {
    const int code = messages_.attribution().first_code();
    if (code == 0 || code == kSavedCode) return;
    const auto now = Clock::now();
    if (!failed_) failed_ = now;
    if (now < *failed_ + seconds(s_.timeouts_.rank_failure_s)) return;
    if (!terminated_after_failure_) child_.send(SIGTERM);
    terminated_after_failure_ = true;
    if (now > *failed_ + seconds(s_.timeouts_.rank_failure_s + s_.timeouts_.host_loss_s))
      child_.send(SIGKILL);
  }

  void announce_stop() {
    const double wait = s_.settings_.kill_wait_s;
    const auto grace = static_cast<double>(spec_.grace_s);
    const bool shorter = stop_.first_signal == SIGTERM && stop_.by_scheduler && wait > 0 && wait < grace;
    s_.err_ << (shorter
                    ? fmt::format("tutti: asked to stop: the ranks have {:.0f} s to save, after which the "
                                  "scheduler ends them (its {}; --grace is {:.0f} s)\n",
                                  wait, s_.settings_.kill_wait_name, grace)
                    : fmt::format("tutti: asked to stop: the ranks have {:.0f} s to save\n", grace))
            << std::flush;
  }

  void request_checkpoint() {
    const auto now = Clock::now();
    const auto grace = seconds(static_cast<double>(spec_.grace_s));
    if (!terminated_ && now >= next_request_) {
      // On SIGTERM, mpirun ends its ranks before they can save; it and srun forward SIGUSR1 to all of them.
      child_.send(SIGUSR1);
      next_request_ = now + seconds(s_.timeouts_.request_interval_s);
    }
    if (!terminated_ && (stop_.immediate || now > stop_.since + grace)) {
      child_.send(SIGTERM);
      terminated_ = true;
      stop_.since = now - grace;
    }
    if (terminated_ && now > stop_.since + grace + seconds(s_.timeouts_.term_s)) child_.send(SIGKILL);
  }

  /// Ends the processes that the program that started the ranks has left.
  void clean_up(int status) {
    const bool isolated = detector_.failure() == HostFailure::kThisHost;
    // Those of this host first: for the others, the scheduler's commands may take long.
    int left = end_descendants(seconds(WIFSIGNALED(status) ? 0 : s_.timeouts_.exit_s));
    if (isolated || WIFSIGNALED(status))
      left += end_ranks_here(s_.adapter_.variables.job_id, s_.allocation_.job_id);
    if (left > 0) s_.err_ << fmt::format("tutti: ended {} processes that were left\n", left) << std::flush;
    if (isolated) return;  // the scheduler cannot be reached
    s_.release(lost_hosts());
    if (WIFSIGNALED(status)) s_.control_.end_steps(steps_before_);
  }

  [[nodiscard]] bool lost() const { return messages_.attribution().saw_loss() || !detector_.hosts().empty(); }
  [[nodiscard]] std::vector<std::string> lost_hosts() const {
    if (!detector_.hosts().empty()) return detector_.hosts();
    return lost() ? messages_.attribution().hosts() : std::vector<std::string>();
  }

  [[nodiscard]] ExitStatus exit_status(int status) const {
    const FailureAttribution& attribution = messages_.attribution();
    ExitStatus exit_status =
        classify({.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
                  .bare_signals = runs_under_hydra(spec_.library) && rendered_.argv.front() == spec_.mpirun,
                  .stop_requested = stop_.requested,
                  .oom_kills = oom_kills_here() - oom_before_,
                  .run_reason = run_reason(spec_.run_directory, summary_before_),
                  .saw_kill = attribution.saw_kill(),
                  .saw_loss = lost(),
                  .saw_memory = attribution.saw_memory(),
                  .isolated = detector_.failure() == HostFailure::kThisHost,
                  .first_code = attribution.first_code(),
                  .hosts = detector_.hosts().empty() ? attribution.hosts() : detector_.hosts(),
                  .memory_option = s_.adapter_.memory_option});
    if (spec_.command.front() == "preflight" && exit_status.reason == Reason::kError &&
        exit_status.exit_code == 1) {
      // The result of preflight, not a failure of the host of the rank that reports it.
      exit_status.hosts.clear();
      exit_status.text =
          "preflight has found a problem with which training should not start; see its table and messages "
          "above";
    }
    return exit_status;
  }

  Supervisor& s_;
  const LaunchSpec& spec_;
  StopRequest& stop_;
  std::vector<Host> hosts_;
  Rendered rendered_;
  std::optional<fs::file_time_type> summary_before_;
  int64_t oom_before_;
  std::set<std::string> steps_before_;
  Messages messages_;
  HostFailureDetector detector_;
  Child child_;
  Clock::time_point next_request_;
  bool terminated_ = false;
  std::optional<Clock::time_point> failed_;
  bool terminated_after_failure_ = false;
};

void Supervisor::release(const std::vector<std::string>& lost) {
  if (lost.empty() || adapter_.shrink == nullptr) return;
  std::set<std::string> released = released_;
  released.insert(lost.begin(), lost.end());
  std::vector<std::string> kept;
  // The allocation is unchanged, as are the scheduler's variables, which mpirun reads.
  for (const Host& host : allocation_.hosts) {
    if (!released.contains(host.name)) kept.push_back(host.name);
  }
  if (released == released_ || kept.size() == allocation_.hosts.size() || !control_.shrink_to(kept)) return;
  released_ = std::move(released);
  err_ << fmt::format("tutti: {} is no longer part of the job\n", fmt::join(lost, ", ")) << std::flush;
}

void Supervisor::exclude_failing_hosts(const ExitStatus& exit_status,
                                       std::map<std::string, int64_t>& failures) {
  for (const std::string& host : exit_status.hosts) {
    const int64_t times = ++failures[host];
    // A host that was lost stays lost; one on which a rank failed is used once more.
    if (times < kFailuresOfABadHost && exit_status.reason != Reason::kHostLost) continue;
    LaunchSpec without = spec_;
    without.exclude.push_back(host);
    const auto named = [&](const Host& h) { return h.name == host; };
    const bool ours = std::any_of(allocation_.hosts.begin(), allocation_.hosts.end(), named);
    const auto left = static_cast<int64_t>(
        std::count_if(allocation_.hosts.begin(), allocation_.hosts.end(), [&](const Host& h) {
          return std::find(without.exclude.begin(), without.exclude.end(), h.name) == without.exclude.end();
        }));
    if (!ours || left == 0) continue;
    without.nodes = std::min(without.nodes, left);
    spec_ = std::move(without);
    err_ << fmt::format("tutti: {} is excluded from the next attempts; {} hosts remain\n", host, left)
         << std::flush;
  }
}

bool Supervisor::requeue(LaunchRecord& record, StopRequest& stop) {
  const JobCommands& commands = adapter_.commands;
  if (control_.can_requeue()) {
    record.mark_requeued();  // before the scheduler ends this process
    if (const std::string problem = control_.requeue(); !problem.empty()) {
      err_ << fmt::format("tutti: the job could not be queued again: {}\n", problem) << std::flush;
      return false;
    }
    // The scheduler ends this job: to exit before its signal would be a race.
    err_ << "tutti: the job is queued again" << std::endl;
    stop.wait_for_end(timeouts_.requeue_s);
    return true;
  }
  if (allocation_.place != Allocation::Place::kInside) return false;
  if (!commands.submit_after.empty()) {
    const std::string job = control_.submit_again(spec_);
    if (job.empty()) return false;
    record.mark_requeued(job);
    err_ << fmt::format("tutti: the job is queued again, as {}\n", job) << std::flush;
    return true;
  }
  if (commands.requeue_code == 0) return false;
  record.mark_requeued();  // the scheduler requeues on the exit code
  return true;
}

void Supervisor::wait_for_requeue(StopRequest& stop) {
  if (!control_.can_requeue() || !(spec_.requeue || spec_.restarts > 0)) return;
  err_
      << "tutti: the scheduler starts the job again when it declares this host down, or as soon as it can be "
         "reached"
      << std::endl;
  const auto end = Clock::now() + seconds(timeouts_.isolated_s);
  while (Clock::now() < end && !stop.requested) {
    if (const std::optional<int64_t> restarts = control_.restarts()) {
      // The job has been started again: another supervisor is responsible.
      if (*restarts > allocation_.requeues) return;
      if (control_.requeue().empty()) {
        err_ << "tutti: the job is queued again" << std::endl;
        return stop.wait_for_end(timeouts_.requeue_s);
      }
    }
    for (const auto next = Clock::now() + seconds(timeouts_.request_interval_s);
         Clock::now() < next && !stop.requested;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      (void)stop.poll();
    }
  }
}

bool Supervisor::should_requeue(const ExitStatus& exit_status, const StopRequest& stop) const {
  // After the warning of a time limit, also one that only the ranks received. SIGTERM comes from a scheduler,
  // which requeues the job itself if it is configured to, or from a user who cancels the job.
  const bool warned = !stop.requested || stop.first_signal == SIGUSR1;
  // At the warning, ranks may be restarting or hang: a job that has made progress is requeued.
  const bool interrupted =
      stop.requested && (exit_status.reason == Reason::kStopped || is_restartable(exit_status, false));
  const bool further = newest_checkpoint(spec_.run_directory) != first_checkpoint_;
  return spec_.requeue && warned && (exit_status.reason == Reason::kPreempted || (interrupted && further));
}

ExitStatus Supervisor::conclude(ExitStatus exit_status, LaunchRecord& record, StopRequest& stop) {
  if (exit_status.reason == Reason::kIsolated) {
    record.end(exit_status);
    wait_for_requeue(stop);
    return exit_status;
  }
  const int code = adapter_.commands.requeue_code;
  if (should_requeue(exit_status, stop) && requeue(record, stop)) {
    if (code != 0) exit_status.exit_code = code;
    return exit_status;
  }
  // A scheduler that requeues on the exit code must not requeue a job that was cancelled.
  if (spec_.requeue && code != 0 && exit_status.exit_code == code) exit_status.exit_code = 128 + SIGTERM;
  record.end(exit_status);
  // The scheduler, on preemption, or a user may have requeued the job already.
  if (stop.first_signal == SIGTERM && control_.restarts().value_or(0) > allocation_.requeues) {
    record.mark_requeued();
    err_ << "tutti: the scheduler has queued the job again" << std::endl;
  }
  return exit_status;
}

ExitStatus Supervisor::run() {
  adopt_orphans();
  StopRequest stop{.daemons = adapter_.daemons};
  if (spec_.time_limit_s > 0) {
    stop.limit =
        Clock::now() + std::chrono::seconds(std::max<int64_t>(1, spec_.time_limit_s - spec_.grace_s));
  }
  const bool was_started = spec_.batch && LaunchRecord::was_started(spec_);
  LaunchRecord record(spec_,
                      {.scheduler = std::string(adapter_.name),
                       .job_id = allocation_.job_id,
                       .state = "running",
                       .supervisor = getpid(),
                       .host = here_.host},
                      err_);
  settings_ = control_.settings();
  first_checkpoint_ = newest_checkpoint(spec_.run_directory);
  std::map<std::string, int64_t> failures;
  int64_t in_a_row = 0;
  for (int64_t restarts = 0;; ++restarts) {
    LaunchSpec spec = spec_;
    spec.restarted = restarts > 0;
    const bool again = restarts > 0 || allocation_.requeues > 0 || was_started;
    const bool resumes =
        std::find(spec.command.begin(), spec.command.end(), "--resume") != spec.command.end();
    if (again && spec.command.front() == "train" && !resumes) spec.command.emplace_back("--resume");
    const std::string checkpoint = newest_checkpoint(spec.run_directory);
    const ExitStatus exit_status = Attempt(*this, spec, stop, record).run();
    record.end_attempt(exit_status);
    const bool saved = newest_checkpoint(spec.run_directory) != checkpoint;
    const bool restart = !stop.requested && restarts < spec_.restarts && is_restartable(exit_status, saved);
    if (exit_status.reason != Reason::kDone)
      err_ << fmt::format("tutti: {}\n", exit_status.text) << std::flush;
    if (!restart) return conclude(exit_status, record, stop);
    exclude_failing_hosts(exit_status, failures);
    in_a_row = saved ? 1 : in_a_row + 1;
    const double wait = wait_before_restart_s(timeouts_, in_a_row);
    err_ << fmt::format("tutti: restart {} of {} {}\n", restarts + 1, spec_.restarts, text_after(wait))
         << std::flush;
    for (const auto end = Clock::now() + seconds(wait); Clock::now() < end && !stop.requested;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      (void)stop.poll();
    }
    if (stop.requested) return conclude(exit_status, record, stop);
  }
}

}  // namespace tutti
