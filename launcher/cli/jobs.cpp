#include "launcher/launch/jobs.h"
#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"

#include <CLI/CLI.hpp>

#include <memory>
#include <string>

namespace tutti {
namespace {

constexpr const char* kTarget = "The run directory, or the id that the scheduler gave the job";

CommandAction setup_jobs(CLI::App& app) {
  const auto runs = std::make_shared<std::string>("runs");
  app.add_option(
         "--runs", *runs,
         "Directory of run directories: adds launches without a scheduler and those whose job has ended")
      ->capture_default_str();
  return [runs](Console& console) {
    return static_cast<ExitCode>(list_jobs(this_environment(), *runs, console.out));
  };
}

CommandAction setup_cancel(CLI::App& app) {
  const auto name = std::make_shared<std::string>();
  app.add_option("JOB", *name, kTarget)->required();
  return [name](Console& console) {
    const Environment here = this_environment();
    cancel_job(find_job(*name, here), here, console.out);
    return ExitCode::kDone;
  };
}

struct LogsOptions {
  std::string name;
  LogOptions log;
};

CommandAction setup_logs(CLI::App& app) {
  const auto options = std::make_shared<LogsOptions>();
  app.add_option("JOB", options->name,
                 "The run directory, or the id of a job whose run directory is below runs")
      ->required();
  app.add_flag("-f,--follow", options->log.follow, "Follow until the job has ended");
  app.add_option("-n,--lines", options->log.lines, "Only the last N lines")->check(between_numbers(0));
  return [options](Console& console) {
    const Environment here = this_environment();
    print_log(find_job(options->name, here), options->log, here, console.out);
    return ExitCode::kDone;
  };
}

}  // namespace

const Command kJobsCommand{"jobs", "List your jobs in the scheduler",
                           R"(  tutti jobs
  tutti jobs --runs /scratch/ada/runs    # without a scheduler: launches of these run directories)",
                           &setup_jobs};

const Command kLogsCommand{"logs", "Print the log of a job",
                           R"(  tutti logs runs/a
  tutti logs -f -n 20 runs/a    # the last lines, and on until the job has ended)",
                           &setup_logs};

const Command kCancelCommand{"cancel", "Cancel a job",
                             R"(  tutti cancel runs/a
  tutti cancel 4711             # by the scheduler's own id)",
                             &setup_cancel};

}  // namespace tutti
