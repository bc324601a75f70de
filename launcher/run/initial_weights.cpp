#include "launcher/run/initial_weights.h"

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include "core/checkpoint/verify_weights.h"
#include "launcher/run/identity.h"
#include "launcher/run/run_model.h"

#include <filesystem>
#include <optional>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

void require_same_function(const fs::path& checkpoint, const CheckpointMetadata& then,
                           const ModelConfig& model) {
  std::string problems;
  for (const Difference& d : model_differences(then, model)) {
    problems += fmt::format("\n  {} is {}, but the run file in the checkpoint has {}: set {}: {}", d.key,
                            d.now, d.then, d.key, d.then);
  }
  require(problems.empty(), "{}: the weights are those of another model than the run file's:{}",
          (checkpoint / "manifest.json").string(), problems);
}

void require_same_tokenizer(const fs::path& checkpoint, const CheckpointMetadata& then,
                            const DataConfig& data) {
  const std::string expected = tokenizer_of(then);
  if (expected.empty()) return;
  const std::optional<Tokenizer> tokenizer = open_tokenizer(data);
  if (!tokenizer || tokenizer->sha256() == expected) return;
  // Another file may give the same ids: compare with that of the run, two levels up.
  const fs::path run = fs::canonical(checkpoint).parent_path().parent_path();
  if (has_tokenizer(run, expected)) return check_tokenizer(run, data);
  fail("{}: is not the tokenizer that the model was trained with: SHA-256 {:.16}..., {} has {:.16}...",
       (fs::path(data.path) / "tokenizer.json").string(), tokenizer->sha256(),
       (checkpoint / "manifest.json").string(), expected);
}

}  // namespace

void check_initial_weights(const RunSettings& settings) {
  const fs::path weights = settings.model.weights;
  std::error_code none;
  fs::path checkpoint = fs::is_directory(weights, none) ? weights : weights.parent_path();
  if (checkpoint.empty()) checkpoint = ".";
  if (!has_checkpoint_manifest(checkpoint)) return;
  const CheckpointMetadata then = read_manifest(checkpoint).metadata;
  // First: another vocabulary follows from another tokenizer.
  require_same_tokenizer(checkpoint, then, settings.data);
  require_same_function(checkpoint, then, settings.model);
}

}  // namespace tutti
