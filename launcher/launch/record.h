#pragma once

#include "launcher/launch/exit_status.h"
#include "launcher/launch/spec.h"

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// launch.json of a run directory: what was launched, how often, and why each attempt ended. For scripts,
/// because mpirun and schedulers lose the reason. Rewritten atomically at every change.
class LaunchRecord {
 public:
  /// The job, for the commands about it.
  struct Job {
    std::string scheduler;
    std::string job_id;      ///< empty: started without a scheduler
    std::string log;         ///< file that the job's output goes to; empty: it went to the terminal
    std::string state;       ///< "submitted", "running" or "ended"
    int64_t supervisor = 0;  ///< its process, where there is no scheduler
    std::string host;        ///< where that is
  };

  static std::filesystem::path path_in(const std::filesystem::path& run_directory);
  /// Throws Error naming the file if it cannot be read or is not a launch record.
  static Job read_job(const std::filesystem::path& run_directory);
  /// Throws Error naming the file if it exists and was not written by a launch: a link, a directory or
  /// another text.
  static void require_own_or_none(const std::filesystem::path& run_directory);
  /// Whether ranks of the same submission have been started in the run's directory before: this is then a
  /// restart of its script.
  static bool was_started(const LaunchSpec& spec);

  /// Continues the record in the directory if it is of the same job, else begins one, as a submission always
  /// does. Creates the directory. Throws Error if it cannot. Later failures to write are reported to `err`:
  /// ranks and jobs do not end because a disk is full.
  LaunchRecord(const LaunchSpec& spec, const Job& job, std::ostream& err);
  ~LaunchRecord();
  LaunchRecord(const LaunchRecord&) = delete;
  LaunchRecord& operator=(const LaunchRecord&) = delete;

  /// Each writes the file if it can.
  void begin_attempt(const std::vector<std::string>& argv, const std::vector<Host>& hosts);
  void end_attempt(const ExitStatus& exit_status);
  void end(const ExitStatus& exit_status);
  /// `job_id` is the new one where the scheduler has given another; empty: the same.
  void mark_requeued(const std::string& job_id = "");

 private:
  void write() const;
  void write_if_possible() const;
  struct Json;
  std::filesystem::path path_;
  std::unique_ptr<Json> json_;
  std::ostream& err_;
};

}  // namespace tutti
