#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/error.h>
#include <tutti/core/interruption.h>
#include <tutti/core/io/file.h>
#include <tutti/core/io/sha256.h>
#include "core/config/utf8.h"
#include "core/counted.h"
#include "core/io/resolved_path.h"
#include "core/system_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <set>

namespace tutti {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kTemporary = ".tmp-";

/// Throws Error naming the first tensor that cannot be saved.
void check_group(const std::string& group, std::span<const StateTensor> tensors) {
  std::set<std::string_view> names;
  for (const StateTensor& tensor : tensors) {
    const auto check = [&](bool ok, std::string_view problem) {
      require(ok, "checkpoint: {} tensor '{}' {}", group, tensor.name, problem);
    };
    check(!tensor.name.empty() && is_utf8(tensor.name), "has no valid name");
    check(names.insert(tensor.name).second, "is a duplicate");
    check(tensor.data.defined() && tensor.data.contiguous(), "is not a contiguous tensor");
    if (tensor.sharding == Sharding::kSharded) {
      check(group != "model", "is sharded; weights must not be");
      check(tensor.begin >= 0 && tensor.end() <= numel(tensor.shape), "exceeds its shape");
    } else {
      check(tensor.begin == 0 && tensor.data.shape() == tensor.shape, "is incomplete");
    }
  }
}

/// A fingerprint of a group's list; equal on all ranks if they describe the same checkpoint.
std::string fingerprint(const TrainingState& state) {
  Sha256 hash;
  for (const auto* group : {&state.model, &state.optimizer}) {
    for (const StateTensor& tensor : *group) {
      hash.update(fmt::format("{} {} {} {}\n", tensor.name, name(tensor.data.dtype()),
                              to_string(tensor.shape), static_cast<int>(tensor.sharding)));
    }
    hash.update("\n");
  }
  return hash.finish();
}

/// Why a directory named as a checkpoint must not be deleted; empty if all its files belong to a training of
/// this owner. An unreadable directory is not deleted.
std::string why_kept(const fs::path& checkpoint, const std::string& owner) {
  try {
    const Manifest manifest = read_manifest(checkpoint);
    const auto run = manifest.metadata.extra.find("run");
    if (!owner.empty() && run != manifest.metadata.extra.end() && run->second != owner)
      return fmt::format("{}: is a checkpoint of another run", checkpoint.string());
    for (const fs::directory_entry& entry : fs::directory_iterator(checkpoint)) {
      const std::string name = entry.path().filename().string();
      if (name != "manifest.json" && name != "SHA256SUMS" && !manifest.files.contains(name))
        return fmt::format("{}: contains {}, which does not belong to the checkpoint", checkpoint.string(),
                           name);
    }
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

/// Renames a file or directory that a checkpoint must not delete; returns the new name.
fs::path move_aside(const fs::path& path) {
  for (int64_t i = 1;; ++i) {
    const fs::path aside = fmt::format("{}.kept-{}", path.string(), i);
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, aside.c_str(), RENAME_NOREPLACE) == 0) return aside;
    require_system(errno == EEXIST, "{}: is not a checkpoint of this run and cannot be renamed",
                   path.string());
  }
}

/// Replaces `to`, which may be an older directory, with `from`.
void rename_over(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return;
  const int first_error = errno;
  require(first_error == ENOTEMPTY || first_error == EEXIST, "{}: cannot rename to it: {}", to.string(),
          system_error_text(first_error));
  std::error_code ignored;  // the next save removes what remains
  // The same step again, after a restart from an older one: exchange, so that one of the two always exists.
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) != 0) {
    // A file system without RENAME_EXCHANGE: for a moment only checkpoints of older steps exist.
    const fs::path aside = from.string() + "-replaced";
    require_system(::rename(to.c_str(), aside.c_str()) == 0 && ::rename(from.c_str(), to.c_str()) == 0,
                   "{}: cannot be replaced", to.string());
    fs::remove_all(aside, ignored);
    return;
  }
  fs::remove_all(from, ignored);
}

struct Leftovers {
  int removed = 0;
  std::string problem;  ///< why one could not be removed
};

/// Removes only the remains of an interrupted save or deletion of this training.
Leftovers remove_leftovers(const fs::path& dir, const std::string& prefix) {
  Leftovers found;
  std::vector<fs::path> leftovers;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    if (entry.path().filename().string().starts_with(prefix + "step-")) leftovers.push_back(entry.path());
  }
  for (const fs::path& path : leftovers) {
    std::error_code error;
    fs::remove_all(path, error);
    if (error)
      found.problem = fmt::format("{}: cannot be removed: {}", path.string(), error.message());
    else
      ++found.removed;
  }
  return found;
}

/// Index of a model in several files; "" for one file.
std::string index_text(const Manifest& manifest) {
  const auto model = manifest.groups.find("model");
  if (model == manifest.groups.end()) return "";
  std::map<std::string, std::string> files;
  std::set<std::string> different;
  int64_t bytes = 0;
  for (const auto& [tensor, entry] : model->second) {
    for (const Manifest::Piece& piece : entry.pieces) {
      files[tensor] = piece.file;
      different.insert(piece.file);
    }
    bytes += numel(entry.shape) * size_of(entry.dtype);
  }
  return different.size() > 1 ? model_index(files, bytes) : "";
}

void write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.finish();
}

}  // namespace

void CheckpointConfig::describe(Fields& f) {
  constexpr double kYear_s = 365.0 * 24 * 60 * 60;
  f.path("dir", dir, "directory of checkpoints; empty: `checkpoints` in the run directory");
  f.value("every", every, "steps between checkpoints; 0: no checkpoints by steps", not_negative());
  f.value("every_s", every_s,
          "seconds between checkpoints, longer if saving would take over 5 % of the time; 0: none by time",
          between(0, kYear_s));
  f.value("keep_last", keep_last, "number of newest checkpoints to keep", at_least(1));
  f.value("keep_every", keep_every, "also keep checkpoints whose step is a multiple of this; 0: none",
          not_negative());
}

StateTensor StateTensor::whole(std::string name, Tensor data) {
  const Shape shape = data.shape();
  return {std::move(name), std::move(data), shape, Sharding::kReplicated, 0};
}

StateTensor StateTensor::part(std::string name, const Shape& shape, int64_t begin, Tensor data) {
  return {std::move(name), std::move(data), shape, Sharding::kSharded, begin};
}

Checkpoints::Checkpoints(CheckpointConfig config, Peers& peers, Log log)
    : config_(std::move(config)), dir_(config_.dir), peers_(peers), log_(std::move(log)) {
  check_settings(config_, "checkpoint");
  require(!dir_.empty(), "checkpoint: the directory's name is empty");
}

void Checkpoints::log(const std::string& message) const {
  if (peers_.rank() == 0 && log_) log_(message);
}

Checkpoints::~Checkpoints() = default;

std::string Checkpoints::temporary_prefix() const {
  return owner_.empty() ? std::string(kTemporary) : fmt::format("{}{}-", kTemporary, owner_);
}

void Checkpoints::lock(const LockOptions& options) {
  if (locked_) return;
  peers_.agree([&] {
    if (peers_.rank() != 0) return;
    std::error_code error;
    fs::create_directories(dir_, error);
    require(!error, "checkpoint.dir: {} cannot be created: {}", dir_.string(), error.message());
    (void)resolve_path(dir_);  // links of other accounts are not followed
    require_system(::access(dir_.c_str(), W_OK | X_OK) == 0, "checkpoint.dir: {} is not writable",
                   dir_.string());
    LockOptions own = options;
    own.subject = "another training";
    own.advice = "End it first, or choose another checkpoint.dir";
    lock_ = std::make_unique<DirectoryLock>(dir_ / ".lock", own);
  });
  locked_ = true;
}

void Checkpoints::prepare(int64_t first_step) {
  lock();
  peers_.agree([&] {
    if (peers_.rank() != 0) return;
    require(first_step > 0 || list_checkpoints(dir_).empty(),
            "checkpoint.dir: {} contains checkpoints of a run; continue it with --resume, or choose another "
            "directory",
            dir_.string());
  });
}

CheckpointReport Checkpoints::save(const TrainingState& state, CheckpointMetadata metadata,
                                   OlderCheckpoints older) {
  const auto start = std::chrono::steady_clock::now();
  metadata.world_size = peers_.size();
  peers_.agree([&] {
    check_group("model", state.model);
    check_group("optimizer", state.optimizer);
    require(metadata.step >= 0 && metadata.next_sample >= 0, "checkpoint: step {} and sample {} are negative",
            metadata.step, metadata.next_sample);
    bool utf8 = is_utf8(metadata.run_file) && is_utf8(metadata.version);
    for (const auto& [key, value] : metadata.extra) utf8 = utf8 && is_utf8(key) && is_utf8(value);
    require(utf8, "checkpoint: a string in the metadata is not valid UTF-8");
  });
  if (locked_) {
    peers_.agree([&] {
      if (lock_) lock_->require_held();
    });
  }
  const std::vector<std::string> prints = peers_.all_gather(fingerprint(state));
  for (size_t rank = 0; rank < prints.size(); ++rank) {
    require(prints[rank] == prints[0], "checkpoint: rank {} lists different tensors than rank 0", rank);
  }

  CheckpointReport report;
  report.step = metadata.step;
  const std::string name = checkpoint_name(metadata.step);
  report.path = (dir_ / name).string();
  const fs::path temporary = dir_ / (temporary_prefix() + name);
  try {
    lock();
    write(state, metadata, temporary, dir_ / name);
  } catch (const Error& error) {
    if (peers_.rank() == 0) {
      std::error_code ignored;
      fs::remove_all(temporary, ignored);
    }
    report.error = error.what();
    log(fmt::format("checkpoint of step {} failed: {}", metadata.step, report.error));
  }
  if (report.error.empty() && older == OlderCheckpoints::kDelete) retain(metadata.step);
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

void Checkpoints::write(const TrainingState& state, const CheckpointMetadata& metadata,
                        const fs::path& temporary, const fs::path& final_path) {
  const bool leader = peers_.rank() == 0;
  peers_.agree([&] {
    if (!leader) return;
    std::error_code error;
    fs::create_directories(dir_, error);
    require(!error, "{}: cannot create: {}", dir_.string(), error.message());
    const Leftovers found = remove_leftovers(dir_, temporary_prefix());
    if (found.removed > 0)
      log(fmt::format("{}: removed {}", dir_.string(), counted(found.removed, "unfinished checkpoint")));
    if (!found.problem.empty() && found.problem != leftover_problem_) log(found.problem);
    leftover_problem_ = found.problem;
    require_system(::mkdir(temporary.c_str(), 0777) == 0, "{}: cannot create", temporary.string());
  });

  const ShardOf rank{peers_.rank(), peers_.size()};
  Manifest part;
  peers_.agree([&] {
    merge(part, write_group(temporary, "model", state.model, rank));
    merge(part, write_group(temporary, "optimizer", state.optimizer, rank));
  });

  const std::vector<std::string> parts = peers_.all_gather(to_json(part));
  peers_.agree([&] {
    if (!leader) return;
    Manifest manifest;
    for (const std::string& text : parts) merge(manifest, parse_manifest_part(text, "checkpoint"));
    manifest.metadata = metadata;
    check_complete(manifest, "checkpoint");
    for (const auto& [file, facts] : manifest.files) {
      require(fs::exists(temporary / file),
              "{}: written by another rank, but not visible here; {} must be on a file system that all ranks "
              "share",
              (temporary / file).string(), dir_.string());
    }
    if (const std::string index = index_text(manifest); !index.empty()) {
      write_text(temporary / kModelIndexName, index);
      manifest.files[std::string(kModelIndexName)] = {static_cast<int64_t>(index.size()), sha256(index)};
    }
    const std::string text = to_json(manifest);
    write_text(temporary / "manifest.json", text);
    write_text(temporary / "SHA256SUMS", checksum_list(manifest, text));
    sync_directory(temporary);
    if (fs::exists(final_path)) {
      if (const std::string reason = why_kept(final_path, owner_); !reason.empty())
        log(fmt::format("{}; it is kept as {}", reason, move_aside(final_path).string()));
    }
    rename_over(temporary, final_path);
    sync_directory(dir_);
  });
}

void Checkpoints::retain(int64_t step) {
  // Steps after this one belong to an earlier attempt; the user who went back decides about them.
  std::vector<fs::path> victims;
  std::string problem;
  if (peers_.rank() == 0) {
    try {
      int64_t kept = 0;
      for (const CheckpointPlace& place : list_checkpoints(dir_)) {
        if (place.step > step || kept++ < config_.keep_last) continue;
        if (config_.keep_every > 0 && place.step % config_.keep_every == 0) continue;
        if (const std::string reason = why_kept(place.path, owner_); !reason.empty()) {
          if (reported_.insert(place.step).second) log(reason + "; it is not deleted");
          continue;
        }
        victims.push_back(place.path);
      }
    } catch (const Error& error) {
      problem = error.what();
    }
  }
  if (peers_.broadcast(victims.empty() ? "" : "delete").empty()) return;
  try {
    const fs::path newest = dir_ / checkpoint_name(step);
    peers_.agree([&] { verify_files(newest, read_manifest(newest), {peers_.rank(), peers_.size()}); });
  } catch (const Error& error) {
    log(fmt::format("older checkpoints are kept: the new one cannot be verified: {}", error.what()));
    return;
  }
  for (const fs::path& victim : victims) {
    // Renamed first: an interrupted deletion must not leave an incomplete checkpoint under its name.
    const fs::path renamed = victim.parent_path() / (temporary_prefix() + victim.filename().string());
    std::error_code error;
    fs::rename(victim, renamed, error);
    if (!error) fs::remove_all(renamed, error);
    if (error) problem = fmt::format("{}: cannot delete: {}", victim.string(), error.message());
  }
  if (!problem.empty()) log(problem);
}

std::optional<CheckpointMetadata> Checkpoints::restore(const TrainingState& state, const Accept& accept) {
  std::string names;
  peers_.agree([&] {
    if (peers_.rank() != 0) return;
    for (const CheckpointPlace& place : list_checkpoints(dir_))
      names += place.path.filename().string() + "\n";
  });
  names = peers_.broadcast(names);
  std::string first_problem;
  for (size_t begin = 0; begin < names.size();) {
    const size_t end = names.find('\n', begin);
    const fs::path checkpoint = dir_ / names.substr(begin, end - begin);
    begin = end + 1;
    Manifest manifest;
    try {
      peers_.agree([&] {
        manifest = read_manifest(checkpoint);
        verify_files(checkpoint, manifest, {peers_.rank(), peers_.size()});
      });
    } catch (const Interrupted&) {
      throw;
    } catch (const Error& error) {
      if (first_problem.empty()) first_problem = error.what();
      log(fmt::format("checkpoint rejected: {}{}", error.what(),
                      begin < names.size() ? "; falling back to the one before it" : ""));
      continue;
    }
    peers_.agree([&] {
      if (accept) accept(manifest.metadata);
      load_state(checkpoint, manifest, state);
    });
    return manifest.metadata;
  }
  require(first_problem.empty(), "{}: contains no usable checkpoint; the newest: {}", dir_.string(),
          first_problem);
  return std::nullopt;
}

CheckpointMetadata Checkpoints::restore_from(const fs::path& checkpoint, const TrainingState& state) {
  Manifest manifest;
  peers_.agree([&] {
    manifest = read_manifest(checkpoint);
    verify_files(checkpoint, manifest, {peers_.rank(), peers_.size()});
  });
  peers_.agree([&] { load_state(checkpoint, manifest, state); });
  return manifest.metadata;
}

}  // namespace tutti
