#pragma once

#include <tutti/core/peers.h>
#include "launcher/metrics/exporter/http_server.h"
#include "launcher/metrics/exporter/metrics_settings.h"
#include "launcher/metrics/exporter/open_metrics.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// The token that clients must send: the text of `file`, or else of the environment variable
/// TUTTI_METRICS_TOKEN; empty if neither is set. Throws Error if users other than its owner can read or write
/// the file, or the token is missing, shorter than 16 characters, or contains a space or a non-ASCII
/// character.
std::string metrics_token(const std::string& file);

/// Serves a rank's training metrics at http://ADDRESS:PORT/metrics.
class MetricsExporter final : public Observer {
 public:
  /// `who` gives the run, the version and the kind of predictions. Rank i of a host listens on section.port +
  /// i. Collective. Throws the same Error on all ranks if the token is invalid or only some ranks have one;
  /// if a port is in use or not permitted, adds a notice, and training continues without it.
  MetricsExporter(const MetricsSection& section, RankMetrics who, Peers& peers);
  ~MetricsExporter() override;
  MetricsExporter(const MetricsExporter&) = delete;
  MetricsExporter& operator=(const MetricsExporter&) = delete;

  void on_step(const StepReport& report) override;
  void on_evaluation(const EvaluationReport& report) override;
  void on_checkpoint(const CheckpointReport& report) override;

  /// Messages for the user: where the metrics are, and errors by rank.
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

/// The targets in Prometheus' format (file_sd_configs), with the run as a label. `run_id` is a label that
/// Prometheus drops: it identifies the run that wrote the file.
std::string targets_json(const std::vector<std::string>& targets, const std::string& run,
                         const std::string& run_id);

/// The path of a run's targets file: metrics-targets.json in its directory, or, if `targets_dir` is not
/// empty, a file there. Its name consists of the run directory's path and a part of its SHA-256, which
/// distinguishes x/y from x-y: Prometheus finds files of many names in one directory, but not one name in
/// many.
std::filesystem::path targets_path(const std::string& targets_dir,
                                   const std::filesystem::path& run_directory);

/// A targets file that exists as long as this object.
class TargetsFile {
 public:
  /// Creates the directory if necessary; replaces the file of an earlier session of run `run_id`. Throws
  /// Error if the file cannot be written, or another file exists. `warn` gets a message if the file is not
  /// removed at the end because it has been changed.
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
