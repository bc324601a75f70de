#pragma once

#include <tutti/core/data/token_writer.h>
#include <tutti/core/data/tokenizer.h>
#include "core/io/target.h"

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// Writes a directory of token shards, a DirectoryTarget: shards, tokenizer.json, and last tokens.json. With
/// `force`, the shards listed in an existing tokens.json are replaced: new ones get unused names, and old
/// ones are removed after the new index is written; other files are kept.
class TokenDirectory {
 public:
  /// `inputs` are files and directories that the command reads. Throws Error with the path and a remedy if
  /// the directory is not writable.
  TokenDirectory(const std::filesystem::path& path, bool force, std::vector<std::filesystem::path> inputs);

  /// Writes the shards of a split.
  [[nodiscard]] TokenShardWriter writer(const std::string& split, TokenSource source, int64_t shard_tokens);
  /// Renames all files to their final names; `tokenizer` may be null.
  void commit(const TokenIndex& index, const Tokenizer* tokenizer);

 private:
  void add(const std::string& name, std::string_view text);

  DirectoryTarget target_;
  std::string suffix_;  // follows the splits' names, so that shards get unused names
};

}  // namespace tutti
