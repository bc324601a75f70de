#pragma once

#include <tutti/core/directory_lock.h>
#include <tutti/core/peers.h>
#include "launcher/run/identity.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// What to do when a run directory already holds a run.
enum class ExistingRun : uint8_t {
  kRefuse,
  kResume,  ///< go on with it; a directory without a run begins one
};

/// How the lock of a run's directories is waited for: longer by the ranks that a supervisor starts again,
/// which may come while those of another host are still ending.
LockOptions run_lock_options(std::function<void(const std::string& text)> say);

/// What it takes to run a training again, apart from what the machine tells.
struct RunIdentity {
  std::string run_file;  ///< the resolved run file, YAML
  uint64_t seed = 0;
  std::vector<std::string> command_line;
  int threads = 0;           ///< of this rank
  int64_t resumed_step = 0;  ///< 0 for a run from the beginning
  /// What is another now than in the checkpoint that was resumed.
  std::vector<Difference> differences;
};

/// The directory of one run, the same on all ranks; rank 0 writes.
///
/// - run.yaml: the resolved run file
/// - manifest.json: the run's id, and an entry a session: command line, seeds, hosts, versions, revisions,
///   environment
/// - metrics.jsonl: steps, evaluations, checkpoints
/// - tensorboard/: event files
/// - checkpoints/
/// - skip.txt: the samples that data.skip left out in the last session
/// - summary.json: the outcome, when the run has ended
/// - metrics-targets.json: while it runs with metrics.port, the ranks' addresses, as Prometheus reads them
/// - report.html: of `tutti report`
/// - lock: there while a run writes here
class RunDirectory {
 public:
  /// Creates the directory, checks that it can be written, and keeps other runs out of it until destroyed. A
  /// manifest that cannot be read is renamed to manifest.json.damaged. Collective; throws the same Error on
  /// all ranks if it holds a run that `existing` does not let go on, cannot be written, is not shared by all
  /// hosts, or another run is at work there. `say` gets a line where that must be waited for.
  RunDirectory(std::filesystem::path path, ExistingRun existing, Peers& peers,
               const std::function<void(const std::string& text)>& say = {});

  /// Writes run.yaml and manifest.json, and takes away the summary of an earlier session. A resumed run's
  /// manifest keeps its earlier sessions; with `warn`, what cannot be read or written for a resumed run is
  /// said there and ends nothing: its checkpoints are what matters. Collective.
  void begin(const RunIdentity& identity, Peers& peers,
             const std::function<void(const std::string& text)>& warn = {}) const;

  /// A name of this run that its later sessions have too; the same on all ranks.
  [[nodiscard]] const std::string& id() const { return id_; }
  /// Whether an earlier session has left it here.
  [[nodiscard]] bool has_earlier_id() const { return earlier_id_; }
  /// Takes over the id that a checkpoint tells, where the manifest that had it is lost.
  void take_id(std::string id) { id_ = std::move(id); }
  /// What a user should know of the state that the directory was found in; on rank 0.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  /// False on rank 0 once another process has taken the directory's lock: this one was taken for dead.
  [[nodiscard]] bool held() const { return !lock_ || lock_->held(); }
  /// Throws Error, the same on all ranks, if another process has taken the directory's lock. Collective.
  void require_held(Peers& peers) const;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path run_file() const { return path_ / "run.yaml"; }
  [[nodiscard]] std::filesystem::path manifest() const { return path_ / "manifest.json"; }
  [[nodiscard]] std::filesystem::path metrics() const { return path_ / "metrics.jsonl"; }
  [[nodiscard]] std::filesystem::path tensorboard() const { return path_ / "tensorboard"; }
  [[nodiscard]] std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  [[nodiscard]] std::filesystem::path tokenizer() const { return path_ / "tokenizer.json"; }
  [[nodiscard]] std::filesystem::path skip_list() const { return path_ / "skip.txt"; }
  [[nodiscard]] std::filesystem::path metrics_targets() const { return path_ / "metrics-targets.json"; }
  [[nodiscard]] std::filesystem::path summary() const { return path_ / "summary.json"; }

 private:
  std::filesystem::path path_;
  std::optional<DirectoryLock> lock_;  ///< on rank 0
  std::string id_;
  bool earlier_id_ = false;
  std::vector<std::string> notes_;
};

}  // namespace tutti
