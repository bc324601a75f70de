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

/// Effect of a change of a key on a resumed run.
enum class KeyClass : uint8_t {
  kRefuse,  ///< another function, other data or other bits: needs --allow-change
  kNote,    ///< accepted and logged
  kFree,    ///< does not change the computation
};

/// The class of a key of the run file ("model.heads"), or of the data's identity ("data.training"). Empty if
/// it is not classified; a resume then refuses its change.
std::optional<KeyClass> key_class(std::string_view key);
/// All entries of the table behind key_class(): keys, and sections as "model.*".
std::vector<std::string> classified_keys();

/// A key whose value differs from that in the checkpoint.
struct Difference {
  std::string key;
  std::string then;
  std::string now;
  KeyClass change = KeyClass::kRefuse;
  friend bool operator==(const Difference&, const Difference&) = default;
};

/// The identity of the data in a checkpoint: entries of CheckpointMetadata::extra.
std::map<std::string, std::string> data_facts(const DataIdentity& training,
                                              const std::optional<DataIdentity>& validation, int64_t samples);

/// Adds digests of contents that were not read this time to `facts`, from a checkpoint that lists the same
/// files: a later session that reads them can still compare them.
void keep_contents(std::map<std::string, std::string>& facts, const std::map<std::string, std::string>& then);

/// The current run, for comparison with a checkpoint.
struct RunNow {
  const RunSettings& settings;
  const std::map<std::string, std::string>& facts;  ///< of data_facts()
  int64_t world_size = 1;
  std::string run_id = "";  ///< earlier id of the run directory; empty if none
};

/// All keys and facts that differ, except those of KeyClass::kFree. Values missing in an older checkpoint are
/// not compared.
std::vector<Difference> compare(const CheckpointMetadata& then, const RunNow& now);

/// The keys of the model section by which two models compute different functions of the same weights; not
/// keys that only affect training (dropout) or precision (fp8), nor those that are independent of the weights
/// (context, image size of a ResNet). Throws Error if a model is not valid.
std::vector<Difference> model_differences(const ModelConfig& then, const ModelConfig& now);

/// The same for the model of the run that saved a checkpoint; empty if the checkpoint does not contain it.
std::vector<Difference> model_differences(const CheckpointMetadata& then, const ModelConfig& now);

/// SHA-256 of the tokenizer of the data that a checkpoint's run was trained on; empty if it is not known, or
/// the data has none.
std::string tokenizer_of(const CheckpointMetadata& metadata);

/// One line per difference, for the user.
std::vector<std::string> lines(std::span<const Difference> differences);

/// Checks the names given to --allow-change: keys of the run file or of the data's identity, or sections.
/// Throws Error naming an invalid name and the closest valid one.
void check_allowed(std::span<const std::string> allowed);

/// Throws Error that lists all refused differences, except those whose key or section is in `allowed`.
void refuse_changes(const CheckpointMetadata& then, std::span<const Difference> differences,
                    std::span<const std::string> allowed);

}  // namespace tutti
