#pragma once

#include <tutti/core/checkpoint/manifest.h>
#include <tutti/core/config/fields.h>
#include <tutti/core/directory_lock.h>
#include <tutti/core/param_group.h>
#include <tutti/core/peers.h>
#include <tutti/core/tensor.h>
#include <tutti/core/train/report.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace tutti {

/// When checkpoints are written and which are kept.
struct CheckpointConfig {
  std::string dir;         ///< where; empty for the run directory's own place, which the launcher fills in
  int64_t every = 0;       ///< steps between checkpoints; 0 for none by steps
  double every_s = 600;    ///< seconds between checkpoints, by rank 0's clock; 0 for none by time
  int64_t keep_last = 2;   ///< this many of the newest
  int64_t keep_every = 0;  ///< and all whose step is a multiple of this; 0 for none

  void describe(Fields& f);
};

/// A tensor of a training's state, or the part of it that this rank holds.
struct StateTensor {
  std::string name;
  /// Contiguous. Read when saving, written when restoring. Of shape `shape`, or, if sharded,
  /// elements [begin, end) of the row-major whole; a sharded part may be empty, but not undefined.
  Tensor data;
  Shape shape;
  Spread spread = Spread::kReplicated;
  int64_t begin = 0;  ///< of a sharded part

  /// A tensor that every rank holds whole.
  static StateTensor whole(std::string name, Tensor data);
  /// Elements [begin, begin + data.numel()) of a tensor of `shape`; ranks hold the rest.
  static StateTensor part(std::string name, const Shape& shape, int64_t begin, Tensor data);

  [[nodiscard]] int64_t end() const { return begin + data.numel(); }
};

/// What a checkpoint holds: every rank lists the same tensors in the same order.
struct TrainingState {
  std::vector<StateTensor> model;  ///< whole tensors only: they also form plain safetensors files
  std::vector<StateTensor> optimizer;
};

/// Writes and restores the checkpoints of a training, on all ranks together, in one directory that all ranks
/// share and no other training uses.
///
/// Layout: DIR/step-00000100/ holds model.safetensors (with several ranks model-00001-of-0000N.safetensors
/// and model.safetensors.index.json, as Hugging Face has them), optimizer-00001-of-0000N.safetensors,
/// manifest.json, and SHA256SUMS, which `sha256sum --check` reads. A directory of that name is always
/// complete: files are written and synced under another name first.
class Checkpoints {
 public:
  using Log = std::function<void(const std::string& message)>;

  /// `peers` outlives this. `log` gets what the user should know, on rank 0.
  Checkpoints(CheckpointConfig config, Peers& peers, Log log);
  ~Checkpoints();
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;

  /// The training's name, of letters and digits, which later sessions of it have too: what it leaves
  /// unfinished carries the name, and only such is deleted. Without one, unfinished checkpoints without a
  /// name are this training's.
  void set_owner(std::string owner) { owner_ = std::move(owner); }

  /// Creates the directory and keeps other trainings out of it, on all hosts, until this is destroyed; does
  /// nothing when that is done already. save() and prepare() do it too. Throws Error on all ranks if it
  /// cannot be written to, or another training is at work there for longer than `options` is patient.
  void lock(const LockOptions& options = {});

  /// To be called before training goes on from `first_step`, so that hours are not spent on what cannot be
  /// kept: see lock(). Throws Error on all ranks also if training begins anew where checkpoints are that it
  /// would replace.
  void prepare(int64_t first_step);

  /// Writes a checkpoint, then deletes those that need not be kept any more; never on the strength of one
  /// that does not read back whole. A write error on any rank (disk full) makes all ranks report the same
  /// `error`; what was there before is untouched and training can go on. Throws Error on all ranks when the
  /// state itself is not fit to be saved, or another process has taken the directory's lock.
  /// With `older` kKeep nothing is deleted.
  CheckpointReport save(const TrainingState& state, CheckpointMetadata metadata,
                        OlderCheckpoints older = OlderCheckpoints::kDelete);

  /// Fills `state` from the newest checkpoint whose checksums verify; torn and damaged ones are skipped with
  /// a log line that names the file, the tensor and the place. Empty if there is no checkpoint at all. Throws
  /// Error on all ranks if there are some but none verifies, or if the tensors of the newest that does are
  /// not those of `state`: missing, extra, or of another shape or dtype. `accept`, if any, gets the metadata
  /// before `state` is changed or compared; what it throws is thrown on all ranks.
  using Accept = std::function<void(const CheckpointMetadata& metadata)>;
  std::optional<CheckpointMetadata> restore(const TrainingState& state, const Accept& accept = {});

  /// The same for one checkpoint's directory. Throws Error if it is damaged or no checkpoint.
  CheckpointMetadata restore_from(const std::filesystem::path& checkpoint, const TrainingState& state);

 private:
  void write(const TrainingState& state, const CheckpointMetadata& metadata,
             const std::filesystem::path& temporary, const std::filesystem::path& final_path);
  void retain(int64_t step);
  /// What unfinished work of this training is called before the step's name.
  [[nodiscard]] std::string temporary_prefix() const;
  void say(const std::string& message) const;

  CheckpointConfig config_;
  std::filesystem::path dir_;
  Peers& peers_;
  Log log_;
  std::string owner_;
  std::string leftover_problem_;  ///< that was said last
  std::set<int64_t> told_;        ///< steps whose directories are kept, and why was said
  bool locked_ = false;
  std::unique_ptr<DirectoryLock> lock_;  // on rank 0
};

/// A committed checkpoint's directory.
struct CheckpointPlace {
  int64_t step = 0;
  std::filesystem::path path;
};
/// The checkpoints in a directory, newest first; empty if there is no such directory. Their content is not
/// looked at.
std::vector<CheckpointPlace> list_checkpoints(const std::filesystem::path& dir);

/// "step-00000100".
std::string checkpoint_name(int64_t step);

/// The manifest of a checkpoint; checks its own checksum, not the data files. Throws Error if the directory
/// is no checkpoint, or is torn.
Manifest read_manifest(const std::filesystem::path& checkpoint);

/// Checks sizes and checksums of the data files whose number modulo `share.ranks` is `share.rank`. Throws
/// Error naming the file, the tensor and the bytes that are damaged.
void verify_files(const std::filesystem::path& checkpoint, const Manifest& manifest, ShardOf share = {});

/// Fills `tensors` from one group ("model", "optimizer") of a checkpoint saved at any world size. Nothing is
/// written unless all fit. Throws Error naming tensors that are missing, extra, or of another shape or dtype.
void load_group(const std::filesystem::path& checkpoint, const Manifest& manifest, const std::string& group,
                std::span<const StateTensor> tensors);

/// The same for both groups; nothing is written unless both fit.
void load_state(const std::filesystem::path& checkpoint, const Manifest& manifest,
                const TrainingState& state);

/// What one rank writes of a group into `dir`: its file and the map of its tensors.
Manifest write_group(const std::filesystem::path& dir, const std::string& group,
                     std::span<const StateTensor> tensors, ShardOf rank);

}  // namespace tutti
