#include "launcher/launch/jobs.h"

#include "launcher/launch/child.h"
#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>
#include "core/system_check.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <fstream>
#include <iterator>
#include <optional>
#include <ostream>
#include <thread>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr double kCommandTimeout_s = 60;
constexpr auto kPollEnd = std::chrono::milliseconds(10);
constexpr auto kPollLog = std::chrono::milliseconds(200);
constexpr auto kAskScheduler = std::chrono::seconds(10);

/// One of an adapter's commands about a job; an empty id is not passed.
Output run_command(const Adapter& adapter, const std::vector<std::string>& command, const std::string& id,
                   const Environment& here) {
  const std::vector<std::string> argv = id.empty() ? command : with_job(adapter.job_ids, command, id);
  return run_to_end(argv, child_environment(here.variables, {}), kCommandTimeout_s);
}

/// Whether the process in a record is a supervisor that still runs here.
bool is_supervisor(const LaunchRecord::Job& record, const Environment& here) {
  if (record.supervisor <= 0 || record.host != here.host) return false;
  std::ifstream file(fmt::format("/proc/{}/comm", record.supervisor));
  std::string name;
  std::getline(file, name);
  return name == "tutti";
}

/// Whether the message of a scheduler's `status` says that there is no such job.
bool says_unknown(const Adapter& adapter, std::string_view message) {
  const auto unknown = adapter.commands.is_unknown;
  return unknown != nullptr && unknown(message);
}

/// Whether the output of a scheduler's `status` says that the job is pending or running.
bool says_waiting(const Adapter& adapter, std::string_view printed) {
  const auto is_active = adapter.commands.is_active;
  return is_active == nullptr ? !printed.empty() : is_active(printed);
}

/// Whether a job is known to be pending or running.
bool is_alive(const NamedJob& job, const Environment& here) {
  if (job.id.empty()) return job.record.state == "running" && is_supervisor(job.record, here);
  if (job.adapter->commands.status.empty()) return false;
  try {
    const Output answer = run_command(*job.adapter, job.adapter->commands.status, job.id, here);
    return answer.exit_code == 0 && says_waiting(*job.adapter, answer.out);
  } catch (const Error&) {
    return false;  // or this machine does not have the scheduler
  }
}

/// The newest launch-*.log of a directory, of those whose names contain `sign`; empty without one.
fs::path newest_log(const fs::path& directory, std::string_view sign = "") {
  fs::path newest;
  fs::file_time_type when;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("launch-") || !name.ends_with(".log") || name.find(sign) == std::string::npos)
      continue;
    const fs::file_time_type written = entry.last_write_time(error);
    if (newest.empty() || written > when) {
      newest = entry.path();
      when = written;
    }
  }
  return newest;
}

/// The log of one job of a sweep, which is in the directory of the whole. A sweep whose jobs run one after
/// the other has one log.
fs::path log_of_sweep(const NamedJob& job) {
  const fs::path directory = job.directory.lexically_normal();
  const fs::path whole = directory.parent_path();
  const std::string name = directory.filename().string();
  int64_t index = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, problem] = std::from_chars(name.data(), end, index);
  std::error_code error;
  if (problem != std::errc() || stop != end || !fs::exists(LaunchRecord::path_in(whole), error)) return {};
  if (job.adapter->commands.array_log == nullptr) return newest_log(whole);
  const std::string sign = job.adapter->commands.array_log(index);
  if (const fs::path own = newest_log(whole, sign); !own.empty()) return own;
  const bool is_array = !newest_log(whole, sign.substr(0, 1)).empty();
  return is_array ? fs::path() : newest_log(whole);
}

fs::path log_of(const NamedJob& job) {
  std::error_code error;
  if (!job.record.log.empty() && fs::is_regular_file(job.record.log, error)) return job.record.log;
  const fs::path own = newest_log(job.directory);
  return own.empty() ? log_of_sweep(job) : own;
}

std::string state_of(const NamedJob& job) {
  try {
    return LaunchRecord::read_job(job.directory).state;
  } catch (const Error&) {
    return "";
  }
}

/// The directory below `runs` whose record is of the job; empty if none is.
fs::path directory_of_job(const JobIds& ids, const std::string& id, const fs::path& runs) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(runs, error)) {
    try {
      if (is_same_job(ids, LaunchRecord::read_job(entry.path()).job_id, id)) return entry.path();
    } catch (const Error&) {
      // No record, or none that can be read.
    }
  }
  return {};
}

/// Runs a program and forwards its output until it ends or `out` fails.
void pass_on(const std::vector<std::string>& argv, const Environment& here, std::ostream& out) {
  Child child = Child::start(argv, child_environment(here.variables, {}), {.capture_out = true});
  std::array<char, 4096> buffer{};
  while (out.good()) {
    pollfd wait{child.out().number(), POLLIN, 0};
    (void)poll(&wait, 1, -1);
    const ssize_t n = read(child.out().number(), buffer.data(), buffer.size());
    if (n > 0) out << std::string_view(buffer.data(), static_cast<size_t>(n)) << std::flush;
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) break;
  }
  if (!out.good()) child.send(SIGTERM);
  std::optional<int> status;
  while (!(status = child.poll_status())) std::this_thread::sleep_for(kPollEnd);
  require(!out.good() || *status == 0, "{}: failed; see its message above", argv.front());
}

}  // namespace

NamedJob find_job(const std::string& name, const Environment& here) {
  std::error_code error;
  if (fs::is_directory(name, error)) {
    NamedJob job{.directory = fs::absolute(name), .record = LaunchRecord::read_job(name)};
    try {
      job.adapter = &adapter_named(job.record.scheduler);
    } catch (const Error&) {
      fail("{}: unknown scheduler '{}'", LaunchRecord::path_in(name).string(), job.record.scheduler);
    }
    job.id = job.record.job_id;
    require(job.id.empty() || job.adapter->job_ids.valid(job.id), "{}: '{}' is not the id of a job", name,
            job.id);
    return job;
  }
  const Detected found = detect(here, {});
  require(!found.adapter->commands.cancel.empty(),
          "'{}' is not a run directory, and there is no scheduler here that could have such a job", name);
  require(found.adapter->job_ids.valid(name),
          "'{}' is neither a run directory nor the id of a job, such as {}", name,
          found.adapter->job_ids.examples);
  return {.adapter = found.adapter, .id = name};
}

namespace {

/// The run directories with a record of a launch.
std::vector<fs::path> launches_below(const fs::path& runs) {
  std::error_code error;
  std::vector<fs::path> directories;
  for (const fs::directory_entry& entry : fs::directory_iterator(runs, error)) {
    if (fs::exists(LaunchRecord::path_in(entry.path()), error)) directories.push_back(entry.path());
  }
  std::sort(directories.begin(), directories.end());
  return directories;
}

/// Launches whose job has ended but whose record has not: the scheduler does not list them.
void list_ended_jobs(const Environment& here, const fs::path& runs, std::ostream& out) {
  for (const fs::path& directory : launches_below(runs)) {
    try {
      const NamedJob job = find_job(directory.string(), here);
      if (job.id.empty() || job.record.state == "ended" || !has_ended(job, here)) continue;
      out << fmt::format(
          "{:<24} gone: job {} has ended without a report, as when its supervisor or first host was lost; "
          "--resume continues from its last checkpoint\n",
          directory.string(), job.id);
    } catch (const Error&) {
      // A record that cannot be read must not hide the others.
    }
  }
}

}  // namespace

int list_jobs(const Environment& here, const fs::path& runs, std::ostream& out) {
  const Detected found = detect(here, {});
  if (!found.adapter->commands.list.empty()) {
    const Output output = run_command(*found.adapter, found.adapter->commands.list, "", here);
    out << output.out << output.err;
    if (output.exit_code == 0) list_ended_jobs(here, runs, out);
    return output.exit_code;
  }
  const std::vector<fs::path> directories = launches_below(runs);
  for (const fs::path& directory : directories) {
    std::string state;
    try {
      const LaunchRecord::Job record = LaunchRecord::read_job(directory);
      const bool lost = record.job_id.empty() && record.state == "running" && !is_supervisor(record, here);
      state = lost ? "gone" : record.state;
    } catch (const Error& problem) {
      state = problem.what();  // one that cannot be read must not hide the others
    }
    out << fmt::format("{:<24} {}\n", directory.string(), state);
  }
  if (directories.empty()) out << fmt::format("no launches below {}\n", runs.string());
  return 0;
}

bool has_ended(const NamedJob& job, const Environment& here) {
  if (job.id.empty()) return !is_supervisor(job.record, here);
  if (job.adapter->commands.status.empty()) return false;
  try {
    const Output answer = run_command(*job.adapter, job.adapter->commands.status, job.id, here);
    return !says_waiting(*job.adapter, answer.out) &&
           (answer.exit_code == 0 || says_unknown(*job.adapter, answer.err));
  } catch (const Error&) {
    return false;  // the scheduler does not answer
  }
}

void check_unused(const LaunchSpec& spec, const Environment& here) {
  std::error_code error;
  if (!fs::is_directory(spec.run_directory, error)) return;
  NamedJob job;
  try {
    job = find_job(spec.run_directory, here);
  } catch (const Error&) {
    return;  // no record of a launch, or none that can be read
  }
  if (job.record.state == "ended") return;
  const auto names = [&](const std::vector<std::string>& jobs) {
    return std::any_of(jobs.begin(), jobs.end(),
                       [&](const std::string& id) { return is_same_job(job.adapter->job_ids, id, job.id); });
  };
  if (names(spec.after) || names(spec.after_ok) || !is_alive(job, here)) return;
  if (job.id.empty()) {
    fail(
        "{}: a launch is running there, process {} on {}. `tutti cancel {}` ends it; or choose another "
        "run.dir",
        spec.run_directory, job.record.supervisor, job.record.host, spec.run_directory);
  }
  fail(
      "{}: job {} is pending or running there. `tutti cancel {}` ends it, --after {} begins after it; or "
      "choose another run.dir",
      spec.run_directory, job.id, spec.run_directory, job.id);
}

void cancel_job(const NamedJob& job, const Environment& here, std::ostream& out) {
  if (!job.id.empty()) {
    // Some schedulers' commands succeed for a job that does not exist.
    require(!has_ended(job, here), "job {} has ended or never existed: `tutti jobs` lists yours", job.id);
    const Output output = run_command(*job.adapter, job.adapter->commands.cancel, job.id, here);
    require(output.exit_code == 0, "{}: job {} was not ended: {}", job.adapter->commands.cancel.front(),
            job.id, without_line_end(output.err.empty() ? output.out : output.err));
    out << fmt::format("job {} is being ended\n", job.id);
    return;
  }
  require(job.record.state == "running", "{}: the launch has ended already", job.directory.string());
  require(is_supervisor(job.record, here), "{}: its supervisor, process {} on {}, is not running here",
          job.directory.string(), job.record.supervisor, job.record.host);
  require_system(kill(static_cast<pid_t>(job.record.supervisor), SIGTERM) == 0, "process {}",
                 job.record.supervisor);
  out << fmt::format("{}: asked to save and stop\n", job.directory.string());
}

std::string_view last_lines(std::string_view text, int64_t lines) {
  if (lines < 0) return text;
  size_t begin = text.size();
  if (begin > 0 && text.back() == '\n') --begin;
  for (; lines > 0; --lines) {
    const size_t found = begin == 0 ? std::string_view::npos : text.rfind('\n', begin - 1);
    if (found == std::string_view::npos) return text;
    begin = found;
  }
  return text.substr(std::min(text.size(), begin + 1));
}

void print_log(const NamedJob& named, const LogOptions& options, const Environment& here, std::ostream& out) {
  NamedJob job = named;
  if (job.directory.empty() && !job.id.empty()) {
    if (const fs::path directory = directory_of_job(job.adapter->job_ids, job.id, "runs");
        !directory.empty()) {
      job = find_job(directory.string(), here);
    }
  }
  if (const auto logs = job.adapter->commands.logs) {
    const std::vector<std::string> argv = logs(job.id, options);
    if (options.follow) return pass_on(argv, here, out);
    const Output output = run_to_end(argv, child_environment(here.variables, {}), kCommandTimeout_s);
    require(output.exit_code == 0, "{}: {}", argv.front(), without_line_end(output.err));
    out << output.out;
    return;
  }
  require(!job.directory.empty(),
          "no directory below runs has a launch of job {}: name its run directory, where its log is", job.id);
  fs::path path = log_of(job);
  const std::string state = state_of(job);
  require(!path.empty() || (options.follow && state != "ended"), "{}: no log; {}", job.directory.string(),
          job.id.empty()         ? "a launch without a scheduler writes to its terminal"
          : state == "submitted" ? "the job has not begun"
          : state == "ended"
              ? "the job has ended; its scheduler has stored the output elsewhere, or it was removed"
              : "the scheduler copies the job's output when it has ended, or stores it elsewhere");
  std::ifstream file;
  auto asked = std::chrono::steady_clock::now();
  bool ended = false;
  bool first = true;
  while (true) {
    if (!file.is_open() && !path.empty()) file.open(path, std::ios::binary);
    if (file.is_open()) {
      file.clear();
      const std::string text{std::istreambuf_iterator<char>(file), {}};
      out << (first ? last_lines(text, options.lines) : std::string_view(text)) << std::flush;
      first = false;
    }
    if (!options.follow || ended || !out.good()) return;
    // What the job wrote before it ended is read once more.
    ended = state_of(job) == "ended";
    if (!ended && std::chrono::steady_clock::now() - asked > kAskScheduler) {
      ended = has_ended(job, here);
      asked = std::chrono::steady_clock::now();
    }
    if (!ended) std::this_thread::sleep_for(kPollLog);
    if (path.empty()) path = log_of(job);
  }
}

}  // namespace tutti
