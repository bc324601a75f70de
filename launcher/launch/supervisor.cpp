#include "launcher/launch/supervisor.h"

#include "launcher/launch/child.h"
#include "launcher/launch/losses.h"
#include "launcher/launch/messages.h"
#include "launcher/launch/record.h"
#include "launcher/launch/run_progress.h"
#include "launcher/launch/stop.h"
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
using Reason = Ending::Reason;

constexpr int kTickMs = 100;
constexpr int64_t kFailuresOfABadHost = 2;
constexpr int kSavedCode = 75;  // of a rank that has saved upon request

std::chrono::nanoseconds seconds(double s) {
  return std::chrono::nanoseconds(static_cast<int64_t>(s * 1e9));
}

std::string text_after(double s) {
  return s < 1 ? "at once" : fmt::format("in {:.0f} s", s);
}

}  // namespace

bool worth_restarting(const Ending& ending, bool saved_meanwhile) {
  switch (ending.reason) {
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

double wait_before_restart_s(const Patience& patience, int64_t restart) {
  constexpr int64_t kMostDoublings = 30;
  const auto doublings = static_cast<double>(std::clamp<int64_t>(restart - 1, 0, kMostDoublings));
  return std::min(patience.most_wait_s, patience.first_wait_s * std::exp2(doublings));
}

Supervisor::Supervisor(const Adapter& adapter, LaunchSpec spec, Allocation allocation,
                       const Surroundings& here, std::ostream& err, const Patience& patience)
    : adapter_(adapter),
      spec_(std::move(spec)),
      allocation_(std::move(allocation)),
      here_(here),
      err_(err),
      patience_(patience),
      control_(adapter_, allocation_, here_, err_) {}

/// The ranks of one attempt, from their start to their end.
class Supervisor::Attempt {
 public:
  Attempt(Supervisor& supervisor, const LaunchSpec& spec, Stop& stop, LaunchRecord& record)
      : s_(supervisor),
        spec_(spec),
        stop_(stop),
        hosts_(placed_hosts(spec, s_.allocation_)),
        rendered_(s_.adapter_.render(spec, s_.allocation_)),
        summary_before_(summary_time(spec.run_directory)),
        oom_before_(oom_kills_here()),
        steps_before_(s_.control_.steps()),
        messages_(s_.err_),
        losses_(hosts_, s_.facts_.controllers, s_.here_.host, s_.err_),
        child_(start(record)),
        next_request_(Clock::now() + seconds(s_.patience_.again_s)) {}

  Ending run() {
    std::optional<int> status;
    bool open = true;
    while (!(status = child_.poll_status())) {
      std::array<pollfd, 2> waits{pollfd{stop_.signals.descriptor(), POLLIN, 0},
                                  pollfd{open ? child_.err().number() : -1, POLLIN, 0}};
      (void)poll(waits.data(), waits.size(), kTickMs);
      if (open) open = messages_.pump(child_.err());
      losses_.tend(child_, messages_.blame(), s_.patience_.loss_s);
      end_what_a_death_leaves();
      if (stop_.look()) announce_stop();
      if (stop_.asked) ask_to_save();
    }
    if (open) open = messages_.pump(child_.err());  // its last words may name a lost host
    clear_up(*status);
    if (open) (void)messages_.pump(child_.err());
    // A scheduler that cancels a job tells all of its processes at once: the ranks may have been quicker.
    (void)stop_.look();
    return ending(*status);
  }

 private:
  Child start(LaunchRecord& record) {
    for (const LaunchFile& file : rendered_.files) write_or_overwrite(file.path, file.text);
    Variables variables = launch_environment(s_.here_.variables, spec_.variables);
    for (const auto& [name, value] : rendered_.variables) variables[name] = value;
    variables["TUTTI_LAUNCH_RANKS"] = std::to_string(total_ranks(hosts_));
    record.begin_attempt(rendered_.argv, hosts_);
    return Child::start(rendered_.argv, variables, {.capture_err = true});
  }

  /// The ranks that are left wait for the dead one in MPI and cannot save: they are ended, unless they end by
  /// themselves. Upon SIGTERM, srun and mpirun kill them.
  void end_what_a_death_leaves() {
    const int code = messages_.blame().first_code();
    if (code == 0 || code == kSavedCode) return;
    const auto now = Clock::now();
    if (!death_) death_ = now;
    if (now < *death_ + seconds(s_.patience_.death_s)) return;
    if (!death_told_) child_.send(SIGTERM);
    death_told_ = true;
    if (now > *death_ + seconds(s_.patience_.death_s + s_.patience_.loss_s)) child_.send(SIGKILL);
  }

  void announce_stop() {
    const double wait = s_.facts_.kill_wait_s;
    const auto grace = static_cast<double>(spec_.grace_s);
    const bool shorter = stop_.first_signal == SIGTERM && stop_.by_scheduler && wait > 0 && wait < grace;
    s_.err_ << (shorter
                    ? fmt::format("tutti: asked to stop: the ranks have {:.0f} s to save, after which the "
                                  "scheduler ends them (its {}; --grace is {:.0f} s)\n",
                                  wait, s_.facts_.kill_wait_name, grace)
                    : fmt::format("tutti: asked to stop: the ranks have {:.0f} s to save\n", grace))
            << std::flush;
  }

  void ask_to_save() {
    const auto now = Clock::now();
    const auto grace = seconds(static_cast<double>(spec_.grace_s));
    if (!terminated_ && now >= next_request_) {
      // mpirun ends its ranks upon SIGTERM before they can save; it and srun pass SIGUSR1 on to all of them.
      child_.send(SIGUSR1);
      next_request_ = now + seconds(s_.patience_.again_s);
    }
    if (!terminated_ && (stop_.at_once || now > stop_.since + grace)) {
      child_.send(SIGTERM);
      terminated_ = true;
      stop_.since = now - grace;
    }
    if (terminated_ && now > stop_.since + grace + seconds(s_.patience_.term_s)) child_.send(SIGKILL);
  }

  /// Ends what the program that started the ranks has left.
  void clear_up(int status) {
    const bool isolated = losses_.verdict() == LossVerdict::kSelf;
    // Those of this host first: for the others a scheduler may have to wait.
    int left = end_descendants(seconds(WIFSIGNALED(status) ? 0 : s_.patience_.leave_s));
    if (isolated || WIFSIGNALED(status))
      left += end_ranks_here(s_.adapter_.variables.job_id, s_.allocation_.job_id);
    if (left > 0) s_.err_ << fmt::format("tutti: ended {} processes that were left\n", left) << std::flush;
    if (isolated) return;  // the scheduler does not hear
    s_.release(lost_hosts());
    if (WIFSIGNALED(status)) s_.control_.end_steps(steps_before_);
  }

  [[nodiscard]] bool lost() const { return messages_.blame().saw_loss() || !losses_.hosts().empty(); }
  [[nodiscard]] std::vector<std::string> lost_hosts() const {
    if (!losses_.hosts().empty()) return losses_.hosts();
    return lost() ? messages_.blame().hosts() : std::vector<std::string>();
  }

  [[nodiscard]] Ending ending(int status) const {
    const Blame& blame = messages_.blame();
    Ending ending =
        label({.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
               .bare_signals = runs_under_hydra(spec_.library) && rendered_.argv.front() == spec_.mpirun,
               .asked_to_stop = stop_.asked,
               .oom_kills = oom_kills_here() - oom_before_,
               .run_reason = run_reason(spec_.run_directory, summary_before_),
               .saw_kill = blame.saw_kill(),
               .saw_loss = lost(),
               .saw_memory = blame.saw_memory(),
               .isolated = losses_.verdict() == LossVerdict::kSelf,
               .first_code = blame.first_code(),
               .hosts = losses_.hosts().empty() ? blame.hosts() : losses_.hosts(),
               .memory_option = s_.adapter_.memory_option});
    if (spec_.command.front() == "preflight" && ending.reason == Reason::kError && ending.exit_code == 1) {
      // Its verdict: the host of the rank that gives it is no more to blame than others.
      ending.hosts.clear();
      ending.text =
          "preflight has found something that training should not start with; its table and messages stand "
          "above";
    }
    return ending;
  }

  Supervisor& s_;
  const LaunchSpec& spec_;
  Stop& stop_;
  std::vector<Host> hosts_;
  Rendered rendered_;
  std::optional<fs::file_time_type> summary_before_;
  int64_t oom_before_;
  std::set<std::string> steps_before_;
  Messages messages_;
  Losses losses_;
  Child child_;
  Clock::time_point next_request_;
  bool terminated_ = false;
  std::optional<Clock::time_point> death_;
  bool death_told_ = false;
};

void Supervisor::release(const std::vector<std::string>& lost) {
  if (lost.empty() || adapter_.shrink == nullptr) return;
  std::set<std::string> released = released_;
  released.insert(lost.begin(), lost.end());
  std::vector<std::string> kept;
  // The allocation stays as it was: so do the scheduler's variables, which mpirun goes by.
  for (const Host& host : allocation_.hosts) {
    if (!released.contains(host.name)) kept.push_back(host.name);
  }
  if (released == released_ || kept.size() == allocation_.hosts.size() || !control_.keep_only(kept)) return;
  released_ = std::move(released);
  err_ << fmt::format("tutti: {} is no longer part of the job\n", fmt::join(lost, ", ")) << std::flush;
}

void Supervisor::leave_out(const Ending& ending, std::map<std::string, int64_t>& failures) {
  for (const std::string& host : ending.hosts) {
    const int64_t times = ++failures[host];
    // A host that went away is still away; one on which a rank died gets a second chance.
    if (times < kFailuresOfABadHost && ending.reason != Reason::kHostLost) continue;
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
    err_ << fmt::format("tutti: {} is left out from now on; {} hosts remain\n", host, left) << std::flush;
  }
}

bool Supervisor::requeue(LaunchRecord& record, Stop& stop) {
  const JobCommands& commands = adapter_.commands;
  if (control_.can_requeue()) {
    record.queued_again();  // before the scheduler ends this process
    if (const std::string problem = control_.requeue(); !problem.empty()) {
      err_ << fmt::format("tutti: the job could not be queued again: {}\n", problem) << std::flush;
      return false;
    }
    // The scheduler now ends this job: an exit code before its signal would only race with that.
    err_ << "tutti: the job is queued again" << std::endl;
    stop.wait_for_end(patience_.requeue_s);
    return true;
  }
  if (allocation_.place != Allocation::Place::kInside) return false;
  if (!commands.submit_after.empty()) {
    const std::string job = control_.submit_again(spec_);
    if (job.empty()) return false;
    record.queued_again(job);
    err_ << fmt::format("tutti: the job is queued again, as {}\n", job) << std::flush;
    return true;
  }
  if (commands.requeue_code == 0) return false;
  record.queued_again();  // the exit code says it
  return true;
}

void Supervisor::wait_to_be_queued_again(Stop& stop) {
  if (!control_.can_requeue() || !(spec_.requeue || spec_.restarts > 0)) return;
  err_ << "tutti: the scheduler starts the job again when it gives this host up, or as soon as it can be "
          "reached"
       << std::endl;
  const auto end = Clock::now() + seconds(patience_.isolated_s);
  while (Clock::now() < end && !stop.asked) {
    if (const std::optional<int64_t> restarts = control_.restarts()) {
      // From then on the job is another supervisor's.
      if (*restarts > allocation_.requeues) return;
      if (control_.requeue().empty()) {
        err_ << "tutti: the job is queued again" << std::endl;
        return stop.wait_for_end(patience_.requeue_s);
      }
    }
    for (const auto next = Clock::now() + seconds(patience_.again_s); Clock::now() < next && !stop.asked;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      (void)stop.look();
    }
  }
}

bool Supervisor::is_to_be_queued_again(const Ending& ending, const Stop& stop) const {
  // Upon the warning of a time limit, also one that only the ranks heard. SIGTERM is a scheduler that ends
  // the job and queues it again itself if it means to, or a user who cancels it.
  const bool warned = !stop.asked || stop.first_signal == SIGUSR1;
  // The warning may meet ranks that start again or do not answer: a job that has come further goes on.
  const bool interrupted =
      stop.asked && (ending.reason == Reason::kStopped || worth_restarting(ending, false));
  const bool further = newest_checkpoint(spec_.run_directory) != first_checkpoint_;
  return spec_.requeue && warned && (ending.reason == Reason::kPreempted || (interrupted && further));
}

Ending Supervisor::conclude(Ending ending, LaunchRecord& record, Stop& stop) {
  if (ending.reason == Reason::kIsolated) {
    record.end(ending);
    wait_to_be_queued_again(stop);
    return ending;
  }
  const int code = adapter_.commands.requeue_code;
  if (is_to_be_queued_again(ending, stop) && requeue(record, stop)) {
    if (code != 0) ending.exit_code = code;
    return ending;
  }
  // A scheduler that goes by the exit code must not queue a job again that was cancelled.
  if (spec_.requeue && code != 0 && ending.exit_code == code) ending.exit_code = 128 + SIGTERM;
  record.end(ending);
  // A scheduler that preempts a job, or a user by its command, may have queued it again already.
  if (stop.first_signal == SIGTERM && control_.restarts().value_or(0) > allocation_.requeues) {
    record.queued_again();
    err_ << "tutti: the scheduler has queued the job again" << std::endl;
  }
  return ending;
}

Ending Supervisor::run() {
  adopt_orphans();
  Stop stop{.daemons = adapter_.daemons};
  if (spec_.time_limit_s > 0) {
    stop.limit =
        Clock::now() + std::chrono::seconds(std::max<int64_t>(1, spec_.time_limit_s - spec_.grace_s));
  }
  const bool has_begun = spec_.batch && LaunchRecord::has_begun(spec_);
  LaunchRecord record(spec_,
                      {.scheduler = std::string(adapter_.name),
                       .job_id = allocation_.job_id,
                       .state = "running",
                       .supervisor = getpid(),
                       .host = here_.host},
                      err_);
  facts_ = control_.facts();
  first_checkpoint_ = newest_checkpoint(spec_.run_directory);
  std::map<std::string, int64_t> failures;
  int64_t in_a_row = 0;
  for (int64_t restarts = 0;; ++restarts) {
    LaunchSpec spec = spec_;
    spec.restarted = restarts > 0;
    const bool again = restarts > 0 || allocation_.requeues > 0 || has_begun;
    const bool resumes =
        std::find(spec.command.begin(), spec.command.end(), "--resume") != spec.command.end();
    if (again && spec.command.front() == "train" && !resumes) spec.command.emplace_back("--resume");
    const std::string checkpoint = newest_checkpoint(spec.run_directory);
    const Ending ending = Attempt(*this, spec, stop, record).run();
    record.end_attempt(ending);
    const bool saved = newest_checkpoint(spec.run_directory) != checkpoint;
    const bool restart = !stop.asked && restarts < spec_.restarts && worth_restarting(ending, saved);
    if (ending.reason != Reason::kDone) err_ << fmt::format("tutti: {}\n", ending.text) << std::flush;
    if (!restart) return conclude(ending, record, stop);
    leave_out(ending, failures);
    in_a_row = saved ? 1 : in_a_row + 1;
    const double wait = wait_before_restart_s(patience_, in_a_row);
    err_ << fmt::format("tutti: restart {} of {} {}\n", restarts + 1, spec_.restarts, text_after(wait))
         << std::flush;
    for (const auto end = Clock::now() + seconds(wait); Clock::now() < end && !stop.asked;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      (void)stop.look();
    }
    if (stop.asked) return conclude(ending, record, stop);
  }
}

}  // namespace tutti
