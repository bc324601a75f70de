#pragma once

#include <tutti/core/peers.h>
#include "launcher/run_lock.h"

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// What to do when a run directory already holds a run.
enum class ExistingRun : uint8_t {
  kRefuse,
  kResume,  ///< go on with it; a directory without a run begins one
};

/// What it takes to run a training again, apart from what the machine tells.
struct RunIdentity {
  std::string run_file;  ///< the resolved run file, YAML
  uint64_t seed = 0;
  std::vector<std::string> command_line;
  int threads = 0;           ///< of this rank
  int64_t resumed_step = 0;  ///< 0 for a run from the beginning
};

/// The directory of one run, the same on all ranks; rank 0 writes.
///
/// - run.yaml: the resolved run file
/// - manifest.json: an entry a session: command line, seeds, hosts, versions, revisions, environment
/// - metrics.jsonl: steps, evaluations, checkpoints
/// - tensorboard/: event files
/// - checkpoints/
/// - summary.json: the outcome, when the run has ended
/// - metrics-targets.json: while it runs with metrics.port, the ranks' addresses, as Prometheus reads them
/// - report.html: of `tutti report`
/// - lock: held while a run writes here
class RunDirectory {
 public:
  /// Creates the directory, checks that it can be written, and keeps other runs out of it until destroyed.
  /// Collective; throws the same Error on all ranks if it holds a run that `existing` does not let go on,
  /// cannot be written, or another run is at work there.
  RunDirectory(std::filesystem::path path, ExistingRun existing, Peers& peers);

  /// Writes run.yaml and manifest.json, and takes away the summary of an earlier session. A resumed run's
  /// manifest keeps its earlier sessions. Collective.
  void begin(const RunIdentity& identity, Peers& peers) const;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path run_file() const { return path_ / "run.yaml"; }
  [[nodiscard]] std::filesystem::path manifest() const { return path_ / "manifest.json"; }
  [[nodiscard]] std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  [[nodiscard]] std::filesystem::path tensorboard() const { return path_ / "tensorboard"; }
  [[nodiscard]] std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  [[nodiscard]] std::filesystem::path tokenizer() const { return path_ / "tokenizer.json"; }
  [[nodiscard]] std::filesystem::path summary() const { return path_ / "summary.json"; }

 private:
  std::filesystem::path path_;
  std::optional<RunLock> lock_;  ///< on rank 0
};

}  // namespace tutti
