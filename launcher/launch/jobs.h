#pragma once

#include "launcher/launch/adapter.h"
#include "launcher/launch/record.h"

#include <filesystem>
#include <iosfwd>
#include <string>

namespace tutti {

/// A job that a command line names: by the directory of its run, or by its id in the scheduler that is
/// detected here.
struct NamedJob {
  const Adapter* adapter = nullptr;
  std::string id;                   ///< empty: started without a scheduler
  std::filesystem::path directory;  ///< of the run; empty if the job was named by its id
  LaunchRecord::Job record;
};

/// Throws Error if `name` is neither a directory with a launch.json nor a valid id of a job here.
NamedJob find_job(const std::string& name, const Environment& here);

/// Whether a job has ended, whatever the state in its record. False if the scheduler cannot be reached.
bool has_ended(const NamedJob& job, const Environment& here);

/// Throws Error if a launch that is pending or running uses the run directory of `spec`, unless `spec` is to
/// begin after it.
void check_unused(const LaunchSpec& spec, const Environment& here);

/// Prints the caller's jobs as the scheduler lists them. Without a scheduler, the launches of the directories
/// below `runs`. Returns the exit code.
int list_jobs(const Environment& here, const std::filesystem::path& runs, std::ostream& out);

/// Ends a job by its scheduler, or its supervisor by SIGTERM, after which the ranks save first. Throws
/// Error if it cannot be reached.
void cancel_job(const NamedJob& job, const Environment& here, std::ostream& out);

/// Prints the output of a job. Throws Error if there is none.
void print_log(const NamedJob& job, const LogOptions& options, const Environment& here, std::ostream& out);

/// The part of a text that holds its last `lines` lines.
std::string_view last_lines(std::string_view text, int64_t lines);

}  // namespace tutti
