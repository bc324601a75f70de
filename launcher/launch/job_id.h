#pragma once

#include "launcher/launch/quoting.h"

#include <string>
#include <string_view>
#include <vector>

namespace tutti {

struct LaunchSpec;

/// Letters, digits and any of ". _ - +", first a letter or digit; brackets hold numbers, lists and ranges of
/// them: "1234_[1-3,5]". What ids of jobs are made of; no such text is an option of a command.
bool is_job_word(std::string_view text);

/// The same with a digit first: "1234", "1234_7", "1234[5].server".
bool is_numbered_job_id(std::string_view text);

/// The last line that is not empty, without the spaces at its end.
std::string_view last_line(std::string_view text);

/// The ids of a scheduler's jobs. The defaults are for ids such as 1234 that the submission prints in a line
/// of their own.
struct JobIds {
  std::string_view examples = "1234";
  /// Whether a text is an id. What it accepts is not an option of a command, nor special to a shell.
  bool (*valid)(std::string_view text) = &is_numbered_job_id;
  /// Characters that an id in --after must not have: schedulers separate ids, or an id and a delay, by them.
  std::string_view separators = "+,:";
  /// The id in what the submission printed, not yet checked.
  std::string_view (*parse)(std::string_view printed) = &last_line;
  /// Whether two ids are of one job. nullptr: those that are equal.
  bool (*same)(std::string_view a, std::string_view b) = nullptr;
  /// The id as the last arguments of a command. nullptr: as it is.
  std::vector<std::string> (*arguments)(const std::string& id) = nullptr;
};

/// The id in what a scheduler printed when a job was submitted. Throws Error if there is none.
std::string parse_job_id(const JobIds& ids, std::string_view printed);

/// Whether two ids are of one job.
bool is_same_job(const JobIds& ids, std::string_view a, std::string_view b);

/// A command about the job with that id.
std::vector<std::string> with_job(const JobIds& ids, std::vector<std::string> command, const std::string& id);

/// Throws UsageError if a job of --after or --after-ok is not the id of one job.
void check_dependencies(const JobIds& ids, const LaunchSpec& spec);

}  // namespace tutti
