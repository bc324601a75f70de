#include "launcher/launch/script.h"

#include "launcher/launch/adapter.h"
#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>

namespace tutti {

void Directives::add(std::string_view text) {
  text_ += fmt::format("{} {}\n", prefix_, text);
}

void Directives::add_if(std::string_view option, std::string_view value) {
  if (!value.empty()) add(fmt::format("{}{}", option, value));
}

void check_directive_path(std::string_view path, std::string_view scheduler, std::string_view also) {
  for (const char c : path) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       byte >= 0x80 || std::string_view("._/+=@,:~-").find(c) != std::string_view::npos;
    require(
        plain || also.find(c) != std::string_view::npos,
        "run.dir '{}': {} would not take '{}' in the name of the job's log literally. Choose another run.dir",
        path, scheduler, c);
  }
}

std::string job_script(const LaunchSpec& spec, const Directives& directives, std::string_view submit_line,
                       LimitSignal signal, std::string_view log_id) {
  const std::vector<std::string> folder{spec.working_directory};
  std::string log;
  if (!log_id.empty()) {
    const std::vector<std::string> beginning{spec.run_directory + "/launch-"};
    log = fmt::format("exec >>{}\"{}\".log 2>&1\n", script_line(beginning, "run.dir"), log_id);
  }
  return fmt::format(
      "#!/bin/bash\n"
      "{}"
      "{}. Submitted again, it continues from the last checkpoint: {}\n"
      "cd -- {} || exit 1\n"
      "{}"
      "# The supervisor replaces the shell, to receive the scheduler's signals.\n"
      "exec {}\n",
      directives.text(), kLaunchMark, submit_line, script_line(folder, "the working directory"), log,
      script_line(inner_launch(spec, signal), "the command"));
}

std::string script_path(const LaunchSpec& spec, std::string_view extension) {
  return fmt::format("{}/launch.{}", spec.run_directory, extension);
}

}  // namespace tutti
