#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/record.h"

#include <filesystem>
#include <iosfwd>
#include <string>

namespace tutti {

/// A job that a command line names: by the directory of its run, or by its id with the scheduler that is in
/// charge here.
struct NamedJob {
  const Adapter* adapter = nullptr;
  std::string id;                   ///< empty: started without a scheduler
  std::filesystem::path directory;  ///< of the run; empty if the job was named by its id
  LaunchRecord::Job record;
};

/// Throws Error if `name` is neither a directory with a launch.json nor could be a job's id here.
NamedJob find_job(const std::string& name, const Surroundings& here);

/// Whether a job that its record calls running has gone without a word. A scheduler that cannot be reached
/// says nothing of the job.
bool is_gone(const NamedJob& job, const Surroundings& here);

/// Throws Error if a launch that waits or runs has the run directory of `spec` already, unless `spec` is to
/// come after it.
void check_is_free(const LaunchSpec& spec, const Surroundings& here);

/// Prints the caller's jobs as the scheduler lists them. Without a scheduler, the launches of the directories
/// below `runs`. Returns the exit code.
int list_jobs(const Surroundings& here, const std::filesystem::path& runs, std::ostream& out);

/// Ends a job by its scheduler, or its supervisor by SIGTERM, upon which the ranks save first. Throws Error
/// if it cannot be reached.
void cancel_job(const NamedJob& job, const Surroundings& here, std::ostream& out);

/// Prints the output of a job. Throws Error if there is none.
void print_log(const NamedJob& job, const LogOptions& options, const Surroundings& here, std::ostream& out);

/// The part of a text that holds its last `lines` lines.
std::string_view last_lines(std::string_view text, int64_t lines);

}  // namespace tutti
