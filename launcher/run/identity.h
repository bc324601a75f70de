#pragma once

#include <tutti/core/checkpoint/manifest.h>
#include <tutti/core/data/verify.h>
#include "launcher/run/run_settings.h"

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// What a change of a key means for a run that is resumed.
enum class KeyClass : uint8_t {
  kRefuse,  ///< another function, other data or other bits: only by --allow-change
  kNote,    ///< goes on, and says so
  kFree,    ///< does not change what is computed
};

/// The class of a key of the run file ("model.heads"), or of the data's identity ("data.training"). Empty if
/// nobody has decided about it; a resume then refuses its change.
std::optional<KeyClass> key_class(std::string_view key);
/// All entries of the table behind key_class(): keys, and sections as "model.*".
std::vector<std::string> classified_keys();

/// One key that is another now than in the checkpoint.
struct Difference {
  std::string key;
  std::string then;
  std::string now;
  KeyClass change = KeyClass::kRefuse;
  friend bool operator==(const Difference&, const Difference&) = default;
};

/// What a checkpoint says of the data: entries of CheckpointMetadata::extra.
std::map<std::string, std::string> data_facts(const DataIdentity& training,
                                              const std::optional<DataIdentity>& validation, int64_t samples);

/// Adds digests of contents that were not read this time to `facts`, from a checkpoint that lists the same
/// files: a later session that reads them compares them still.
void keep_contents(std::map<std::string, std::string>& facts, const std::map<std::string, std::string>& then);

/// A run as it would go on: to be compared with a checkpoint.
struct RunNow {
  const RunSettings& settings;
  const std::map<std::string, std::string>& facts;  ///< of data_facts()
  int64_t world_size = 1;
  std::string run_id = "";  ///< that the run directory had before; empty if none
};

/// All keys and facts that differ, but for those of KeyClass::kFree. What an older checkpoint does not tell
/// is not compared.
std::vector<Difference> compare(const CheckpointMetadata& then, const RunNow& now);

/// The keys of the model section by which two models compute different functions of the same weights; not
/// those of training alone (dropout), of precision (fp8), nor those that fit any data (context, size of a
/// ResNet's images). Throws Error if a model is none.
std::vector<Difference> model_differences(const ModelConfig& then, const ModelConfig& now);

/// The same for the model of the run that saved a checkpoint; empty where the checkpoint does not tell.
std::vector<Difference> model_differences(const CheckpointMetadata& then, const ModelConfig& now);

/// SHA-256 of the tokenizer of the data that a checkpoint's run was trained on; empty if it is not known, or
/// the data has none.
std::string tokenizer_of(const CheckpointMetadata& metadata);

/// A line for each difference, as a user reads it.
std::vector<std::string> lines(std::span<const Difference> differences);

/// Checks the names given to --allow-change: keys of the run file or of the data's identity, or sections.
/// Throws Error naming the one that is none, and the nearest.
void check_allowed(std::span<const std::string> allowed);

/// Throws Error that lists all differences that are refused, unless `allowed` names the key or its section.
void refuse_changes(const CheckpointMetadata& then, std::span<const Difference> differences,
                    std::span<const std::string> allowed);

}  // namespace tutti
