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

/// The names of files of an earlier export in a folder, which an export may replace.
std::vector<std::string> exported_names(const std::filesystem::path& folder);

/// A tokenizer and the directory that it was read from, whose configuration is exported with it.
struct TokenizerFolder {
  Tokenizer tokenizer;
  std::filesystem::path folder;
};

struct FolderExport {
  DType dtype = DType::kFloat32;
  int64_t shard_bytes = int64_t{5} << 30;  ///< larger weights are written to several files
};

/// Writes what AutoModelForCausalLM and, with a tokenizer, AutoTokenizer of transformers open: config.json,
/// generation_config.json, model.safetensors (or shards and their index), tokenizer.json and
/// tokenizer_config.json. Throws Error naming the keys of the run file if transformers does not support the
/// model.
void export_folder(DirectoryTarget& target, const RunModel& run,
                   const std::optional<TokenizerFolder>& tokenizer, const FolderExport& options,
                   const Stream& stream);

/// The tensors with their external names, converted to `dtype`. Throws Error naming the tensor if a finite
/// value overflows.
std::vector<std::pair<std::string, Tensor>> tensors_to_export(const RunModel& run, DType dtype,
                                                              const Stream& stream);

}  // namespace tutti
