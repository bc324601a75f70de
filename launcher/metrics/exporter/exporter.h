#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/peers.h>
#include "launcher/metrics/exporter/http_server.h"
#include "launcher/metrics/exporter/open_metrics.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// The `metrics` section of a run file: the HTTP endpoint that Prometheus reads.
///
/// Off by default: a training that listens on ports unasked would surprise on a shared login node, and two of
/// them there would collide. Every rank has a port of its own, because waiting times and memory are those of
/// a rank, and a slow one hides behind any mean.
struct MetricsSection {
  int64_t port = 0;
  std::string address = "127.0.0.1";
  std::string token_file;
  std::string targets_dir;

  void describe(Fields& f);
};

/// The token that clients must show: the text of `file`, or else of the environment variable
/// TUTTI_METRICS_TOKEN; empty if neither is there. Throws Error if others than its owner can read or write
/// the file, or the token is missing, shorter than 16 characters or holds a space or something that is no
/// ASCII.
std::string metrics_token(const std::string& file);

/// Serves what a rank's training tells of itself at http://ADDRESS:PORT/metrics.
class MetricsExporter final : public Observer {
 public:
  /// `who` names run, version and what predictions are. Rank i of a host listens on section.port + i.
  /// Collective. Throws the same Error on all ranks if the token cannot be used or only some have one; a port
  /// that is taken or may not be used is a notice, and training goes on without it.
  MetricsExporter(const MetricsSection& section, RankMetrics who, Peers& peers);
  ~MetricsExporter() override;
  MetricsExporter(const MetricsExporter&) = delete;
  MetricsExporter& operator=(const MetricsExporter&) = delete;

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void on_checkpoint(const CheckpointReport& report) override;

  /// Lines for people: where the metrics are, and what went wrong on which rank.
  [[nodiscard]] const std::vector<std::string>& notices() const { return notices_; }
  /// "host:port" of every rank that listens.
  [[nodiscard]] const std::vector<std::string>& targets() const { return targets_; }

 private:
  [[nodiscard]] HttpServer::Answer answer(const HttpServer::Request& request) const;

  mutable std::mutex mutex_;
  RankMetrics metrics_;
  std::vector<std::string> notices_;
  std::vector<std::string> targets_;
  std::optional<HttpServer> server_;  // last: its thread uses the others
};

/// The targets as Prometheus finds them (file_sd_configs), with the run as a label. `run_id` is a label that
/// Prometheus drops: it tells whose file this is.
std::string targets_json(const std::vector<std::string>& targets, const std::string& run,
                         const std::string& run_id);

/// Where the targets of a run stand: metrics-targets.json in its directory; in `targets_dir`, if that is not
/// empty, under a name made of the run directory's path and a part of its SHA-256, which tells x/y from x-y,
/// because Prometheus looks for files of many names in one folder but not for one name in many.
std::filesystem::path targets_path(const std::string& targets_dir,
                                   const std::filesystem::path& run_directory);

/// A file of targets that is there as long as this object.
class TargetsFile {
 public:
  /// Creates the folder if need be; replaces what an earlier session of run `run_id` has left. Throws Error
  /// if the file cannot be written, or something else is there. `warn` gets a line if the file is not removed
  /// in the end, because it is not the one any more that this object wrote.
  TargetsFile(std::filesystem::path path, std::string text, const std::string& run_id,
              std::function<void(const std::string& text)> warn = {});
  ~TargetsFile();
  TargetsFile(const TargetsFile&) = delete;
  TargetsFile& operator=(const TargetsFile&) = delete;

 private:
  std::filesystem::path path_;
  std::string text_;
  std::function<void(const std::string& text)> warn_;
};

}  // namespace tutti
