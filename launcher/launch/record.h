#pragma once

#include "launcher/launch/ending.h"
#include "launcher/launch/spec.h"

#include <cstdint>
#include <filesystem>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// launch.json of a run directory: what was launched, how often, and why each attempt ended. Scripts read it,
/// because mpirun and schedulers lose the reason. Written anew, atomically, at every change.
class LaunchRecord {
 public:
  /// What the file says of the job, for the commands that look after it.
  struct Job {
    std::string scheduler;
    std::string job_id;      ///< empty: started without a scheduler
    std::string log;         ///< file that the job's output goes to; empty: it went to the terminal
    std::string state;       ///< "submitted", "running" or "ended"
    int64_t supervisor = 0;  ///< its process, where there is no scheduler
    std::string host;        ///< where that is
  };

  static std::filesystem::path path_in(const std::filesystem::path& run_directory);
  /// Throws Error naming the file if it cannot be read or is no launch record.
  static Job read_job(const std::filesystem::path& run_directory);
  /// Throws Error naming the file if something is there that no launch has written: a link, a directory or a
  /// text of somebody else.
  static void require_own_or_none(const std::filesystem::path& run_directory);
  /// Whether ranks of the same submission have been started in the run's directory before: whoever starts its
  /// script now starts it again.
  static bool has_begun(const LaunchSpec& spec);

  /// Goes on with the record that the directory holds if it is of the same job, or begins one, as a
  /// submission always does. Creates the directory. Throws Error if it cannot. What cannot be written later
  /// is told on `err`: ranks and jobs do not end because a disk is full.
  LaunchRecord(const LaunchSpec& spec, const Job& job, std::ostream& err);
  ~LaunchRecord();
  LaunchRecord(const LaunchRecord&) = delete;
  LaunchRecord& operator=(const LaunchRecord&) = delete;

  /// Each writes the file if it can.
  void begin_attempt(const std::vector<std::string>& argv, const std::vector<Host>& hosts);
  void end_attempt(const Ending& ending);
  void end(const Ending& ending);
  /// `job_id` is the new one where the scheduler has given another; empty: the same.
  void queued_again(const std::string& job_id = "");

 private:
  void write() const;
  void write_if_possible() const;
  struct Json;
  std::filesystem::path path_;
  std::unique_ptr<Json> json_;
  std::ostream& err_;
};

}  // namespace tutti
