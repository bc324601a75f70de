#pragma once

#include <tutti/core/data/token_writer.h>
#include <tutti/core/data/tokenizer.h>
#include "core/io/target.h"

#include <filesystem>
#include <string>
#include <vector>

namespace tutti {

/// A directory of token shards while it is written, a DirectoryTarget: shards, tokenizer.json, and last
/// tokens.json. With `force`, the shards that tokens.json in it names are replaced, under names that are
/// free, and removed once the new index is there; every other file is left.
class TokenDirectory {
 public:
  /// `inputs` are files and directories that the command reads. Throws Error that names the path and says
  /// what to do if nothing can be written there.
  TokenDirectory(const std::filesystem::path& path, bool force, std::vector<std::filesystem::path> inputs);

  /// Writes the shards of a split.
  [[nodiscard]] TokenShardWriter writer(const std::string& split, TokenSource source, int64_t shard_tokens);
  /// Gives all files their names; `tokenizer` may be null.
  void commit(const TokenIndex& index, const Tokenizer* tokenizer);

 private:
  void add(const std::string& name, std::string_view text);

  DirectoryTarget target_;
  std::string suffix_;  // behind the splits' names, so that shards have names that are free
};

}  // namespace tutti
