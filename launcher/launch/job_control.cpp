#include "launcher/launch/job_control.h"

#include "launcher/launch/child.h"
#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <charconv>
#include <ostream>
#include <sstream>

namespace tutti {
namespace {

constexpr double kTimeout_s = 10;
constexpr double kRequeueTimeout_s = 30;

/// `text` with the first `name` in it replaced.
std::string replaced(std::string text, std::string_view name, std::string_view by) {
  if (const size_t found = text.find(name); found != std::string::npos) text.replace(found, name.size(), by);
  return text;
}

}  // namespace

JobControl::JobControl(const Adapter& adapter, const Allocation& allocation, const Environment& here,
                       std::ostream& err)
    : adapter_(adapter), allocation_(allocation), here_(here), err_(err) {}

bool JobControl::in_job() const {
  return allocation_.place == Allocation::Place::kInside && !allocation_.job_id.empty();
}

std::vector<std::string> JobControl::about_job(const std::vector<std::string>& command) const {
  return with_job(adapter_.job_ids, command, allocation_.job_id);
}

SchedulerSettings JobControl::settings() const {
  if (!in_job() || adapter_.commands.settings.empty() || adapter_.parse_settings == nullptr) return {};
  try {
    const Output output =
        run_to_end(adapter_.commands.settings, child_environment(here_.variables, {}), kTimeout_s);
    if (output.exit_code == 0) return adapter_.parse_settings(output.out);
  } catch (const Error&) {
    // The same as without such a command.
  }
  return {};
}

std::set<std::string> JobControl::steps() const {
  const JobCommands& commands = adapter_.commands;
  if (!in_job() || commands.steps.empty() || commands.parse_steps == nullptr) return {};
  try {
    const Output output =
        run_to_end(about_job(commands.steps), child_environment(here_.variables, {}), kTimeout_s);
    const std::vector<std::string> found = commands.parse_steps(output.out);
    return {found.begin(), found.end()};
  } catch (const Error&) {
    return {};  // a scheduler that does not answer cannot end a step either
  }
}

void JobControl::end_steps(const std::set<std::string>& before) const {
  const std::vector<std::string>& command =
      adapter_.commands.end_step.empty() ? adapter_.commands.cancel : adapter_.commands.end_step;
  for (const std::string& step : steps()) {
    if (before.contains(step)) continue;
    std::vector<std::string> argv = command;
    argv.push_back(step);
    try {
      (void)run_to_end(argv, child_environment(here_.variables, {}), kTimeout_s);
      err_ << fmt::format("tutti: ended step {}, whose starter was killed\n", step) << std::flush;
    } catch (const Error& problem) {
      err_ << fmt::format("tutti: step {} may still run: {}\n", step, problem.what()) << std::flush;
    }
  }
}

bool JobControl::shrink_to(const std::vector<std::string>& kept) const {
  if (!in_job() || adapter_.shrink == nullptr || kept.empty()) return false;
  const ShrinkCommand command = adapter_.shrink(allocation_.job_id, kept);
  Variables variables = child_environment(here_.variables, {});
  for (const std::string& name : command.unset) variables.erase(name);
  std::string words;
  try {
    const Output output = run_to_end(command.argv, variables, kTimeout_s);
    if (output.exit_code == 0) return true;
    words = without_line_end(output.err);
  } catch (const Error& problem) {
    words = problem.what();
  }
  err_ << fmt::format(
              "tutti: the lost host stays part of the job ({}): the scheduler may end the job, or start it "
              "again, when it declares that host down\n",
              words)
       << std::flush;
  return false;
}

std::optional<int64_t> JobControl::restarts() const {
  if (!in_job() || adapter_.commands.restarts.empty()) return std::nullopt;
  try {
    const Output output =
        run_to_end(about_job(adapter_.commands.restarts), child_environment(here_.variables, {}), kTimeout_s);
    int64_t count = 0;
    if (output.exit_code == 0 && std::istringstream(output.out) >> count) return count;
  } catch (const Error&) {
    // Not known.
  }
  return std::nullopt;
}

bool JobControl::can_requeue() const {
  return in_job() && !adapter_.commands.requeue.empty();
}

std::string JobControl::requeue() const {
  try {
    const Output output = run_to_end(about_job(adapter_.commands.requeue),
                                     child_environment(here_.variables, {}), kRequeueTimeout_s);
    if (output.exit_code == 0) return "";
    return output.err.empty() ? "no reason given" : std::string(without_line_end(output.err));
  } catch (const Error& problem) {
    return problem.what();
  }
}

std::string JobControl::submit_again(const LaunchSpec& spec) const {
  std::vector<std::string> argv;
  argv.reserve(adapter_.commands.submit_after.size());
  for (const std::string& word : adapter_.commands.submit_after) {
    argv.push_back(
        replaced(replaced(word, "{job}", allocation_.job_id), "{directory}", spec.submission_directory));
  }
  try {
    const Output output =
        run_to_end(argv, child_environment(here_.variables, spec.variables), kRequeueTimeout_s);
    require(output.exit_code == 0, "{}", without_line_end(output.err.empty() ? output.out : output.err));
    return parse_job_id(adapter_.job_ids, output.out);
  } catch (const Error& problem) {
    err_ << fmt::format("tutti: the job could not be queued again: {}\n", problem.what()) << std::flush;
    return "";
  }
}

}  // namespace tutti
