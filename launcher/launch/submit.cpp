#include "launcher/launch/submit.h"

#include "launcher/launch/child.h"
#include "launcher/launch/quoting.h"
#include "launcher/launch/record.h"
#include "launcher/overwrite.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <filesystem>
#include <ostream>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr double kToolTimeout_s = 10;
constexpr double kSubmitTimeout_s = 120;
constexpr int64_t kMostFileBytes = int64_t{16} << 20;

bool holds(const fs::path& path, std::string_view text) {
  try {
    return read_text_file(path, kMostFileBytes).find(text) != std::string::npos;
  } catch (const Error&) {
    return false;
  }
}

/// The same for the files of one launch in the directory where they go.
void check_own_files_in(const fs::path& directory, const Rendered& rendered) {
  LaunchRecord::require_own_or_none(directory);
  for (const LaunchFile& file : rendered.files) {
    const fs::path path = directory / fs::path(file.path).filename();
    require_replaceable(path, [&] { return holds(path, kLaunchMark); });
  }
}

}  // namespace

void check_own_files(const LaunchSpec& spec, const Rendered& rendered) {
  check_own_files_in(spec.run_directory, rendered);
  if (spec.command.front() == "train" && spec.preflight != "off") {
    const fs::path measured = fs::path(spec.run_directory) / "preflight.json";
    require_replaceable(measured, [&] { return holds(measured, "\"tutti-preflight\""); });
  }
  for (int64_t i = 0; !spec.sweep.empty() && i < spec.sweep_size(); ++i) {
    check_own_files_in(combination(spec, i).run_directory, rendered);
  }
}

void check_tools(const LaunchSpec& spec, const Rendered& rendered, const Environment& here) {
  const std::string& program = rendered.argv.front();
  const Variables variables = child_environment(here.variables, spec.variables);
  if (program == spec.mpirun) {
    const Output version = run_to_end({program, "--version"}, variables, kToolTimeout_s);
    check_mpirun(spec.library, version.out + version.err);
  } else if (rendered.check.verify != nullptr) {
    const Output output = run_to_end(rendered.check.argv, variables, kToolTimeout_s);
    rendered.check.verify(spec, output.out + output.err);
  }
}

void submit(const Adapter& adapter, const LaunchSpec& spec, const Rendered& rendered, const Environment& here,
            std::ostream& out, std::ostream& err) {
  std::error_code error;
  fs::create_directories(spec.run_directory, error);
  require(!error, "{}: cannot be created: {}", spec.run_directory, error.message());
  for (const LaunchFile& file : rendered.files) write_file_atomically(file.path, file.text);
  Variables variables = child_environment(here.variables, spec.variables);
  for (const auto& [name, value] : rendered.variables) variables[name] = value;
  const Output answer = run_to_end(rendered.argv, variables, kSubmitTimeout_s,
                                   rendered.input.empty() ? "/dev/null" : rendered.input);
  require(answer.exit_code == 0, "{} refused the job (exit code {}): {}", rendered.argv.front(),
          answer.exit_code, without_line_end(answer.err.empty() ? answer.out : answer.err));
  const std::string job = parse_job_id(adapter.job_ids, answer.out);
  // The jobs of a sweep have a log each.
  const std::string log = spec.sweep.empty() ? fmt::format("{}/launch-{}.log", spec.run_directory, job) : "";
  try {
    const LaunchRecord record(spec,
                              {.scheduler = std::string(adapter.name),
                               .job_id = job,
                               .log = log,
                               .state = "submitted",
                               .host = here.host},
                              err);
  } catch (const Error& problem) {
    // The job is queued: without its id, the user would submit it again.
    out << job << '\n';
    err << fmt::format(
        "tutti: job {} is submitted, but its record could not be written: {}. `tutti cancel {}` ends it; run "
        "directory and log are in {}\n",
        job, problem.what(), job, spec.run_directory);
    return;
  }
  const std::vector<std::string> directory{
      fs::path(spec.run_directory).lexically_proximate(fs::current_path()).string()};
  const std::string where = shell_line(directory);
  out << fmt::format(
      "{}\n"
      "  tutti jobs               # yours, and how far they are\n"
      "  tutti logs -f {}\n"
      "  tutti cancel {}\n",
      job, where, where);
}

}  // namespace tutti
