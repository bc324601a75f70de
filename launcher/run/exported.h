#pragma once

#include "launcher/run/run_model.h"

#include <tutti/core/data/tokenizer.h>
#include <tutti/models/external_names.h>
#include "core/io/target.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// The names that a folder of transformers may have: those of an earlier export in it.
std::vector<std::string> exported_names(const std::filesystem::path& folder);

/// A tokenizer and the directory that it was read from, whose configuration goes out with it.
struct TokenizerFolder {
  Tokenizer tokenizer;
  std::filesystem::path folder;
};

struct FolderExport {
  DType dtype = DType::kFloat32;
  int64_t shard_bytes = int64_t{5} << 30;  ///< larger weights go to several files
};

/// Writes what AutoModelForCausalLM and, with a tokenizer, AutoTokenizer of transformers open: config.json,
/// generation_config.json, model.safetensors (or shards and their index), tokenizer.json and
/// tokenizer_config.json. Throws Error naming the keys of the run file if transformers has no such model.
void export_folder(DirectoryTarget& target, const RunModel& run,
                   const std::optional<TokenizerFolder>& tokenizer, const FolderExport& options,
                   const Stream& stream);

/// The tensors under their names for others, of `dtype`. Throws Error naming the tensor if a finite value is
/// beyond what the dtype holds.
std::vector<std::pair<std::string, Tensor>> tensors_to_export(const RunModel& run, DType dtype,
                                                              const Stream& stream);

}  // namespace tutti
