#pragma once

#include <tutti/core/checkpoint/checkpoint_settings.h>
#include <tutti/core/checkpoint/manifest.h>
#include <tutti/core/checkpoint/training_state.h>
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

/// Writes and restores the checkpoints of a training, collectively on all ranks, in a directory that all
/// ranks share and no other training uses.
///
/// Layout: DIR/step-00000100/ holds model.safetensors (with several ranks model-00001-of-0000N.safetensors
/// and model.safetensors.index.json, as Hugging Face has them), optimizer-00001-of-0000N.safetensors,
/// manifest.json, and SHA256SUMS, which `sha256sum --check` reads. A directory of that name is always
/// complete: files are written and synced under another name first.
class Checkpoints {
 public:
  using Log = std::function<void(const std::string& message)>;

  /// `peers` must outlive this object. `log` gets messages for the user, on rank 0.
  Checkpoints(CheckpointConfig config, Peers& peers, Log log);
  ~Checkpoints();
  Checkpoints(const Checkpoints&) = delete;
  Checkpoints& operator=(const Checkpoints&) = delete;

  /// The training's id, of letters and digits, which its later sessions share. Unfinished checkpoints carry
  /// the id, and only those with this id are deleted. Without an id, unfinished checkpoints without one
  /// belong to this training.
  void set_owner(std::string owner) { owner_ = std::move(owner); }

  /// Creates the directory and locks it against other trainings, on all hosts, until this object is
  /// destroyed; does nothing if it is locked already. save() and prepare() lock it too. Throws Error on all
  /// ranks if the directory is not writable, or another training holds the lock longer than `options` allows.
  void lock(const LockOptions& options = {});

  /// Must be called before training continues from `first_step`, so that an unusable directory is found
  /// early: see lock(). Also throws Error on all ranks if a new training would replace existing checkpoints.
  void prepare(int64_t first_step);

  /// Writes a checkpoint, verifies it, and then deletes those that are not to be kept. A write error on any
  /// rank (disk full) makes all ranks report the same `error`; earlier checkpoints are unchanged and training
  /// can continue. Throws Error on all ranks if the state cannot be saved, or another process has taken the
  /// directory's lock. With `older` kKeep nothing is deleted.
  CheckpointReport save(const TrainingState& state, CheckpointMetadata metadata,
                        OlderCheckpoints older = OlderCheckpoints::kDelete);

  /// Fills `state` from the newest checkpoint whose checksums verify; incomplete and damaged ones are skipped
  /// with a log line that names the file, the tensor and the bytes. Empty if there is no checkpoint. Throws
  /// Error on all ranks if none of the checkpoints verifies, or if the tensors do not match `state`: missing,
  /// extra, or of another shape or dtype. `accept`, if any, gets the metadata before `state` is changed or
  /// compared; its exceptions are thrown on all ranks.
  using Accept = std::function<void(const CheckpointMetadata& metadata)>;
  std::optional<CheckpointMetadata> restore(const TrainingState& state, const Accept& accept = {});

  /// The same for one checkpoint directory. Throws Error if it is damaged or not a checkpoint.
  CheckpointMetadata restore_from(const std::filesystem::path& checkpoint, const TrainingState& state);

 private:
  void write(const TrainingState& state, const CheckpointMetadata& metadata,
             const std::filesystem::path& temporary, const std::filesystem::path& final_path);
  void retain(int64_t step);
  /// Prefix of unfinished directories of this training.
  [[nodiscard]] std::string temporary_prefix() const;
  void log(const std::string& message) const;

  CheckpointConfig config_;
  std::filesystem::path dir_;
  Peers& peers_;
  Log log_;
  std::string owner_;
  std::string leftover_problem_;  ///< the last one reported
  std::set<int64_t> reported_;    ///< steps whose kept directories were reported
  bool locked_ = false;
  std::unique_ptr<DirectoryLock> lock_;  // on rank 0
};

/// The directory of a committed checkpoint.
struct CheckpointPlace {
  int64_t step = 0;
  std::filesystem::path path;
};
/// The checkpoints in a directory, newest first; empty if there is no such directory. Their content is not
/// checked.
std::vector<CheckpointPlace> list_checkpoints(const std::filesystem::path& dir);

/// "step-00000100".
std::string checkpoint_name(int64_t step);

/// The manifest of a checkpoint; verifies the manifest's checksum, not the data files. Throws Error if the
/// directory is not a checkpoint, or is incomplete.
Manifest read_manifest(const std::filesystem::path& checkpoint);

/// Checks sizes and checksums of the data files whose number modulo `share.ranks` is `share.rank`. Throws
/// Error naming the file, the tensor and the bytes that are damaged.
void verify_files(const std::filesystem::path& checkpoint, const Manifest& manifest, ShardOf share = {});

/// Fills `tensors` from one group ("model", "optimizer") of a checkpoint saved at any world size. Changes
/// nothing unless all match. Throws Error naming tensors that are missing, extra, or of another shape or
/// dtype.
void load_group(const std::filesystem::path& checkpoint, const Manifest& manifest, const std::string& group,
                std::span<const StateTensor> tensors);

/// The same for both groups; changes nothing unless both match.
void load_state(const std::filesystem::path& checkpoint, const Manifest& manifest,
                const TrainingState& state);

/// Writes this rank's part of a group into `dir`; returns its file and the map of its tensors.
Manifest write_group(const std::filesystem::path& dir, const std::string& group,
                     std::span<const StateTensor> tensors, ShardOf rank);

}  // namespace tutti
