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
  kResume,  ///< continue it; without a run in the directory, begin one
};

/// How long to wait for the lock of a run's directories: longer for ranks restarted by a supervisor, which
/// may start while those of another host are still terminating.
LockOptions run_lock_options(std::function<void(const std::string& text)> say);

/// What is needed to repeat a training, apart from properties of the machine.
struct RunIdentity {
  std::string run_file;  ///< the resolved run file, YAML
  uint64_t seed = 0;
  std::vector<std::string> command_line;
  int threads = 0;           ///< of this rank
  int64_t resumed_step = 0;  ///< 0 for a run from the beginning
  /// What differs from the resumed checkpoint.
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
  /// Creates the directory, checks that it is writable, and locks it against other runs until destroyed. A
  /// manifest that cannot be read is renamed to manifest.json.damaged. Collective; throws the same Error on
  /// all ranks if the directory contains a run that `existing` does not allow to continue, is not writable,
  /// is not shared by all hosts, or is in use by another run. `say` gets a message while waiting for the
  /// lock.
  RunDirectory(std::filesystem::path path, ExistingRun existing, Peers& peers,
               const std::function<void(const std::string& text)>& say = {});

  /// Writes run.yaml and manifest.json, and removes the summary of an earlier session. A resumed run's
  /// manifest keeps its earlier sessions; with `warn`, read and write errors of a resumed run are reported
  /// there and do not end it, since its checkpoints are intact. Collective.
  void begin(const RunIdentity& identity, Peers& peers,
             const std::function<void(const std::string& text)>& warn = {}) const;

  /// The run's id, shared by its later sessions; the same on all ranks.
  [[nodiscard]] const std::string& id() const { return id_; }
  /// Whether the id comes from an earlier session.
  [[nodiscard]] bool has_earlier_id() const { return earlier_id_; }
  /// Adopts the id from a checkpoint if the manifest is lost.
  void take_id(std::string id) { id_ = std::move(id); }
  /// Messages for the user about the state of the directory; on rank 0.
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }
  /// False on rank 0 after another process has taken over the directory's lock, assuming this one dead.
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
