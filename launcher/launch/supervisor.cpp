#include "launcher/launch/supervisor.h"

#include "launcher/launch/child.h"
#include "launcher/launch/held_signals.h"
#include "launcher/launch/host_watch.h"
#include "launcher/launch/record.h"
#include "launcher/launch/submit.h"
#include "launcher/launch/words.h"
#include "launcher/metrics/summary.h"
#include "launcher/write_if_different.h"

#include <tutti/core/error.h>
#include <tutti/core/system_check.h>

#include <poll.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <ostream>
#include <sstream>
#include <thread>

namespace tutti {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Reason = Ending::Reason;

constexpr int kTickMs = 100;
constexpr int64_t kFailuresOfABadHost = 2;
constexpr double kRequeueTimeout_s = 30;
constexpr double kStepsTimeout_s = 10;

std::chrono::nanoseconds seconds(double s) {
  return std::chrono::nanoseconds(static_cast<int64_t>(s * 1e9));
}

/// Takes the signals that end or concern a launch out of the process's usual handling, as long as it lives.
class Signals {
 public:
  Signals() : descriptor_(signalfd(-1, &held_.set(), SFD_NONBLOCK | SFD_CLOEXEC)) {
    require_system(descriptor_.number() >= 0, "signalfd");
  }

  [[nodiscard]] int descriptor() const { return descriptor_.number(); }
  /// The next signal that has come; 0 for none.
  int next() {
    signalfd_siginfo info{};
    const ssize_t n = read(descriptor_.number(), &info, sizeof info);
    return n == static_cast<ssize_t>(sizeof info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  HeldSignals held_;
  Descriptor descriptor_;
};

/// The name of the newest checkpoint of a run; empty without one.
std::string newest_checkpoint(const std::string& run_directory) {
  std::string newest;
  std::error_code error;
  for (const fs::directory_entry& entry :
       fs::directory_iterator(fs::path(run_directory) / "checkpoints", error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-")) newest = std::max(newest, name);
  }
  return newest;
}

/// When a run's summary was written, by the clock of its file system; nullopt without one.
std::optional<fs::file_time_type> summary_time(const std::string& run_directory) {
  std::error_code error;
  const fs::file_time_type written = fs::last_write_time(fs::path(run_directory) / "summary.json", error);
  return error ? std::nullopt : std::optional(written);
}

/// Why the run says that it ended; empty if its summary is the one that was there `before`.
std::string run_reason(const std::string& run_directory, std::optional<fs::file_time_type> before) {
  const fs::path path = fs::path(run_directory) / "summary.json";
  const std::optional<fs::file_time_type> written = summary_time(run_directory);
  if (!written || written == before) return "";
  try {
    return read_summary(path).exit_reason;
  } catch (const Error&) {
    return "";
  }
}

/// Passes a program's messages on to `err` and notes whom they blame.
class Messages {
 public:
  explicit Messages(std::ostream& err) : err_(err) {}

  /// Reads what is there; false at the end.
  bool pump(const Descriptor& pipe) {
    std::array<char, 4096> buffer{};
    while (true) {
      const ssize_t n = read(pipe.number(), buffer.data(), buffer.size());
      if (n == 0) return false;
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno == EAGAIN;
      const std::string_view text(buffer.data(), static_cast<size_t>(n));
      err_ << text << std::flush;
      look_at(text);
    }
  }
  [[nodiscard]] const Blame& blame() const { return blame_; }

 private:
  void look_at(std::string_view text) {
    constexpr size_t kLongestLine = 4096;
    for (const char c : text) {
      if (c != '\n') {
        if (line_.size() < kLongestLine) line_ += c;
        continue;
      }
      blame_.look_at(line_);
      line_.clear();
    }
  }

  std::ostream& err_;
  std::string line_;
  Blame blame_;
};

/// Hosts that go away while ranks run: the program that started the ranks names them, or a watch does where
/// that program would not notice. Either then waits for answers that cannot come.
class Losses {
 public:
  Losses(const Rendered& rendered, const std::vector<Host>& hosts, std::string_view own, std::ostream& err)
      : watch_(rendered.misses_lost_hosts ? names(hosts) : std::vector<std::string>(), own), err_(err) {}

  /// Ends `child` when a host is lost.
  void tend(Child& child, const Blame& blame, double patience_s) {
    const auto now = Clock::now();
    if (hosts_.empty()) {
      hosts_ = watch_.lost();
      if (!hosts_.empty()) {
        err_ << fmt::format("tutti: {} does not answer any more\n", fmt::join(hosts_, ", ")) << std::flush;
        child.send(SIGTERM);
      }
    }
    if (hosts_.empty() && !blame.saw_loss()) return;
    if (!since_) since_ = now;
    if (now > *since_ + seconds(patience_s)) child.send(SIGKILL);
  }
  /// As the watch found them.
  [[nodiscard]] const std::vector<std::string>& hosts() const { return hosts_; }

 private:
  static std::vector<std::string> names(const std::vector<Host>& hosts) {
    std::vector<std::string> all;
    all.reserve(hosts.size());
    for (const Host& host : hosts) all.push_back(host.name);
    return all;
  }

  HostWatch watch_;
  std::ostream& err_;
  std::vector<std::string> hosts_;
  std::optional<Clock::time_point> since_;
};

/// `text` with the first `name` in it replaced.
std::string replaced(std::string text, std::string_view name, std::string_view by) {
  if (const size_t found = text.find(name); found != std::string::npos) text.replace(found, name.size(), by);
  return text;
}

std::string text_after(double s) {
  return s < 1 ? "at once" : fmt::format("in {:.0f} s", s);
}

}  // namespace

/// What the supervisor was told, over all attempts.
struct Supervisor::Stop {
  Signals signals;
  bool asked = false;
  int first_signal = 0;
  bool at_once = false;
  Clock::time_point since;
  Clock::time_point limit = Clock::time_point::max();  ///< when ranks are told to stop

  /// Takes in what has come. Returns whether it is the first request to stop.
  bool look() {
    const bool before = asked;
    while (const int signal = signals.next()) {
      if (signal == SIGCHLD || signal == SIGUSR2) continue;
      if (asked && (signal == SIGINT || signal == SIGTERM)) at_once = true;
      if (!asked) ask(signal);
    }
    if (!asked && Clock::now() >= limit) ask(SIGUSR1);
    return asked && !before;
  }

 private:
  void ask(int signal) {
    asked = true;
    first_signal = signal;
    since = Clock::now();
  }
};

bool worth_restarting(const Ending& ending, bool saved_meanwhile) {
  switch (ending.reason) {
    case Reason::kKilled:
    case Reason::kSignal:
    case Reason::kHostLost:
      return true;
    case Reason::kOutOfMemory:
    case Reason::kError:
      return saved_meanwhile;
    case Reason::kDone:
    case Reason::kPreempted:
    case Reason::kStopped:
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
      patience_(patience) {}

Ending Supervisor::attempt(const LaunchSpec& spec, LaunchRecord& record, Stop& stop) {
  const std::vector<Host> hosts = placed_hosts(spec, allocation_);
  const Rendered rendered = adapter_.render(spec, allocation_);
  for (const LaunchFile& file : rendered.files) write_if_different(file.path, file.text);
  Variables variables = launch_environment(here_.variables, spec.variables);
  for (const auto& [name, value] : rendered.variables) variables[name] = value;
  variables["TUTTI_LAUNCH_RANKS"] = std::to_string(total_ranks(hosts));

  const std::optional<fs::file_time_type> summary_before = summary_time(spec.run_directory);
  const int64_t oom_before = oom_kills_here();
  const std::set<std::string> steps_before = steps();
  record.begin_attempt(rendered.argv, hosts);
  Child child = Child::start(rendered.argv, variables, {.capture_err = true});
  Messages messages(err_);
  Clock::time_point next_request = Clock::now() + seconds(patience_.again_s);
  bool terminated = false;
  bool open = true;
  Losses losses(rendered, hosts, here_.host, err_);
  std::optional<int> status;
  while (!(status = child.poll_status())) {
    std::array<pollfd, 2> waits{pollfd{stop.signals.descriptor(), POLLIN, 0},
                                pollfd{open ? child.err().number() : -1, POLLIN, 0}};
    (void)poll(waits.data(), waits.size(), kTickMs);
    if (open) open = messages.pump(child.err());
    losses.tend(child, messages.blame(), patience_.loss_s);
    if (stop.look()) {
      err_ << fmt::format("tutti: asked to stop: the ranks have {} s to save\n", spec.grace_s) << std::flush;
    }
    if (!stop.asked) continue;
    const auto now = Clock::now();
    if (!terminated && now >= next_request) {
      // mpirun ends its ranks upon SIGTERM before they can save; it and srun pass SIGUSR1 on to all of them.
      child.send(SIGUSR1);
      next_request = now + seconds(patience_.again_s);
    }
    const auto grace = seconds(static_cast<double>(spec.grace_s));
    if (!terminated && (stop.at_once || now > stop.since + grace)) {
      child.send(SIGTERM);
      terminated = true;
      stop.since = now - grace;
    }
    if (terminated && now > stop.since + grace + seconds(patience_.term_s)) child.send(SIGKILL);
  }
  if (WIFSIGNALED(*status)) end_steps(steps_before);
  const int left = end_descendants();
  if (left > 0) err_ << fmt::format("tutti: ended {} processes that were left\n", left);
  if (open) (void)messages.pump(child.err());
  // A scheduler that cancels a job tells all of its processes at once: the ranks may have been quicker.
  (void)stop.look();
  Ending ending =
      label({.exit_code = WIFSIGNALED(*status) ? 128 + WTERMSIG(*status) : WEXITSTATUS(*status),
             .bare_signals = runs_under_hydra(spec.library) && rendered.argv.front() == spec.mpirun,
             .asked_to_stop = stop.asked,
             .oom_kills = oom_kills_here() - oom_before,
             .run_reason = run_reason(spec.run_directory, summary_before),
             .saw_kill = messages.blame().saw_kill(),
             .saw_loss = messages.blame().saw_loss() || !losses.hosts().empty(),
             .hosts = losses.hosts().empty() ? messages.blame().hosts() : losses.hosts()});
  if (spec.command.front() == "preflight" && ending.reason == Reason::kError && ending.exit_code == 1) {
    // Its verdict: the host of the rank that gives it is no more to blame than others.
    ending.hosts.clear();
    ending.text =
        "preflight has found something that training should not start with; its table and messages stand "
        "above";
  }
  return ending;
}

std::set<std::string> Supervisor::steps() const {
  std::set<std::string> found;
  if (allocation_.place != Allocation::Place::kInside || adapter_.commands.steps.empty()) return found;
  std::vector<std::string> argv = adapter_.commands.steps;
  argv.push_back(allocation_.job_id);
  try {
    std::istringstream lines(run_to_end(argv, launch_environment(here_.variables, {}), kStepsTimeout_s).out);
    for (std::string step; lines >> step;) {
      const size_t dot = step.rfind('.');
      const bool numbered = dot != std::string::npos && dot + 1 < step.size() &&
                            step.find_first_not_of("0123456789", dot + 1) == std::string::npos;
      if (numbered && is_plain_word(step)) found.insert(step);  // not the batch script's
    }
  } catch (const Error&) {
    // A scheduler that does not answer ends no step either.
  }
  return found;
}

void Supervisor::end_steps(const std::set<std::string>& before) {
  for (const std::string& step : steps()) {
    if (before.contains(step)) continue;
    std::vector<std::string> argv = adapter_.commands.cancel;
    argv.push_back(step);
    try {
      (void)run_to_end(argv, launch_environment(here_.variables, {}), kStepsTimeout_s);
      err_ << fmt::format("tutti: ended step {}, whose starter was killed\n", step) << std::flush;
    } catch (const Error& problem) {
      err_ << fmt::format("tutti: step {} may go on: {}\n", step, problem.what()) << std::flush;
    }
  }
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
    err_ << fmt::format("tutti: {} is left out from now on; {} hosts remain\n", host, left);
  }
}

bool Supervisor::requeue(LaunchRecord& record, Stop& stop) try {
  if (allocation_.place != Allocation::Place::kInside) return false;
  const JobCommands& commands = adapter_.commands;
  std::vector<std::string> argv = commands.requeue;
  if (!argv.empty()) argv.push_back(allocation_.job_id);
  if (argv.empty()) {
    for (const std::string& word : commands.submit_after) {
      argv.push_back(
          replaced(replaced(word, "{job}", allocation_.job_id), "{directory}", spec_.submission_directory));
    }
  }
  if (argv.empty() && commands.requeue_code == 0) return false;
  if (!commands.requeue.empty() || argv.empty())
    record.queued_again();        // before the scheduler ends this process
  if (argv.empty()) return true;  // the exit code says it
  const Output output =
      run_to_end(argv, launch_environment(here_.variables, spec_.variables), kRequeueTimeout_s);
  require(output.exit_code == 0, "{}", without_line_end(output.err.empty() ? output.out : output.err));
  if (commands.requeue.empty()) {
    const std::string job = parse_job_id(output.out);
    record.queued_again(job);
    err_ << fmt::format("tutti: the job is queued again, as {}\n", job) << std::flush;
    return true;
  }
  // The scheduler now ends this job: an exit code of its own would only race with that. When the scheduler
  // asks this process to end, or a user does, there is nothing left to wait for.
  err_ << "tutti: the job is queued again" << std::endl;
  for (const auto end = Clock::now() + seconds(patience_.requeue_s); Clock::now() < end;) {
    pollfd wait{stop.signals.descriptor(), POLLIN, 0};
    (void)poll(&wait, 1, kTickMs);
    while (const int signal = stop.signals.next()) {
      if (signal == SIGTERM || signal == SIGINT) return true;
    }
  }
  return true;
} catch (const Error& problem) {
  err_ << fmt::format("tutti: the job could not be queued again: {}\n", problem.what()) << std::flush;
  return false;
}

Ending Supervisor::run() {
  adopt_orphans();
  Stop stop;
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
  const std::string first_checkpoint = newest_checkpoint(spec_.run_directory);
  const auto is_to_be_queued_again = [&](const Ending& ending) {
    // Upon the warning of a time limit, also one that only the ranks heard. SIGTERM is a scheduler that ends
    // the job and queues it again itself if it means to, or a user who cancels it.
    const bool warned = !stop.asked || stop.first_signal == SIGUSR1;
    // The warning may meet ranks that start again or do not answer: a job that has come further goes on.
    const bool interrupted =
        stop.asked && (ending.reason == Reason::kStopped || worth_restarting(ending, false));
    const bool further = newest_checkpoint(spec_.run_directory) != first_checkpoint;
    return spec_.requeue && warned && (ending.reason == Reason::kPreempted || (interrupted && further));
  };
  const auto conclude = [&](Ending ending) {
    const int code = adapter_.commands.requeue_code;
    if (is_to_be_queued_again(ending) && requeue(record, stop)) {
      if (code != 0) ending.exit_code = code;
      return ending;
    }
    // A scheduler that goes by the exit code must not queue a job again that was cancelled.
    if (spec_.requeue && code != 0 && ending.exit_code == code) ending.exit_code = 128 + SIGTERM;
    record.end(ending);
    return ending;
  };
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
    const Ending ending = attempt(spec, record, stop);
    record.end_attempt(ending);
    const bool saved = newest_checkpoint(spec.run_directory) != checkpoint;
    const bool restart = !stop.asked && restarts < spec_.restarts && worth_restarting(ending, saved);
    if (ending.reason != Reason::kDone) err_ << fmt::format("tutti: {}\n", ending.text) << std::flush;
    if (!restart) {
      return conclude(ending);
    }
    leave_out(ending, failures);
    in_a_row = saved ? 1 : in_a_row + 1;
    const double wait = wait_before_restart_s(patience_, in_a_row);
    err_ << fmt::format("tutti: restart {} of {} {}\n", restarts + 1, spec_.restarts, text_after(wait))
         << std::flush;
    for (const auto end = Clock::now() + seconds(wait); Clock::now() < end && !stop.asked;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(kTickMs));
      (void)stop.look();
    }
    if (stop.asked) {
      return conclude(ending);
    }
  }
}

}  // namespace tutti
