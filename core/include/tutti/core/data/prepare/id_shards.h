#pragma once

#include <tutti/core/data/token_writer.h>

#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// Settings of `tutti data tokens --ids`, which converts ids of another program to token shards.
struct ShardIdsConfig {
  std::vector<std::string> train;       ///< files of ids, which are concatenated
  std::vector<std::string> validation;  ///< empty: the last part of `train`
  std::string out;                      ///< directory to write
  bool force = false;                   ///< write into a directory that is not empty
  int64_t vocabulary = 0;               ///< ids are below this; 0: the tokenizer's
  std::string tokenizer;                ///< the tokenizer.json of the ids; empty: unknown
  std::string type = "auto";            ///< storage type of raw numbers (IdType)
  int64_t shard_tokens = int64_t{1} << 26;
  double validation_fraction = 0.05;

  void describe(Fields& f);
};

/// Writes ids into `config.out` as tokenize_files() does, with tokenizer.json if one is given; the report's
/// bytes are ids. Throws Error naming the file, and the position of an id outside the vocabulary.
TokenizeReport shard_ids(const ShardIdsConfig& config,
                         const std::function<void(const TokenizeReport&)>& progress = {});

}  // namespace tutti
