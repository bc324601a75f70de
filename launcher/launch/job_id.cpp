#include "launcher/launch/job_id.h"

#include "launcher/launch/spec.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

namespace tutti {
namespace {

void check_jobs(const JobIds& ids, std::string_view option, const std::vector<std::string>& jobs) {
  for (const std::string& job : jobs) {
    require_usage(ids.valid(job) && job.find_first_of(ids.separators) == std::string::npos,
                  "{} '{}' is not the id of a job, such as {}", option, job, ids.examples);
  }
}

}  // namespace

bool is_job_word(std::string_view text) {
  if (text.empty() || !(is_letter(text.front()) || is_digit(text.front()))) return false;
  bool inside = false;
  for (const char c : text) {
    if (c == (inside ? ']' : '[')) {
      inside = !inside;
    } else if (inside ? !is_digit(c) && c != '-' && c != ',' && c != ':' : !is_made_of({&c, 1}, "._-+")) {
      return false;
    }
  }
  return !inside;
}

bool is_numbered_job_id(std::string_view text) {
  return is_job_word(text) && is_digit(text.front());
}

std::string_view last_line(std::string_view text) {
  while (!text.empty() && std::string_view("\r\n ").find(text.back()) != std::string_view::npos)
    text.remove_suffix(1);
  if (const size_t line = text.rfind('\n'); line != std::string_view::npos) text = text.substr(line + 1);
  return text;
}

std::string parse_job_id(const JobIds& ids, std::string_view printed) {
  const std::string_view id = ids.parse(printed);
  require(ids.valid(id), "the scheduler's answer '{}' holds no job id", id);
  return std::string(id);
}

bool is_same_job(const JobIds& ids, std::string_view a, std::string_view b) {
  return ids.same == nullptr ? a == b : ids.same(a, b);
}

std::vector<std::string> with_job(const JobIds& ids, std::vector<std::string> command,
                                  const std::string& id) {
  if (ids.arguments == nullptr) {
    command.push_back(id);
    return command;
  }
  const std::vector<std::string> arguments = ids.arguments(id);
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

void check_dependencies(const JobIds& ids, const LaunchSpec& spec) {
  check_jobs(ids, "--after", spec.after);
  check_jobs(ids, "--after-ok", spec.after_ok);
}

}  // namespace tutti
