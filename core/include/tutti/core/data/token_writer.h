#pragma once

#include <tutti/core/config/fields.h>
#include <tutti/core/data/token_shards.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/io/file.h>
#include <tutti/core/thread_pool.h>

#include <functional>
#include <string>
#include <vector>

namespace tutti {

/// Writes ids into shards of a fixed number of tokens.
class TokenShardWriter {
 public:
  /// Files are `directory`/`split`-00000.safetensors and on. The directory exists.
  TokenShardWriter(std::filesystem::path directory, std::string split, TokenSource source,
                   int64_t shard_tokens);
  /// The same with the files that `create` makes, given their names: `stem`-00000.safetensors and on.
  TokenShardWriter(std::function<OutputFile(const std::string& name)> create, std::string stem,
                   std::string split, TokenSource source, int64_t shard_tokens);
  /// Throws Error on an id outside the vocabulary, or when a file cannot be written.
  void add(std::span<const int32_t> ids);
  /// Writes the last, shorter shard and returns all of them.
  TokenIndex::Split finish();
  [[nodiscard]] int64_t tokens() const noexcept { return tokens_; }

 private:
  void flush();

  std::function<OutputFile(const std::string&)> create_;
  std::string stem_;
  TokenSource source_;
  int64_t shard_tokens_;
  TokenIndex::Split split_;
  std::vector<int32_t> pending_;
  int64_t tokens_ = 0;
};

/// What `tutti data tokens` does: plain text files to token shards.
struct TokenizeConfig {
  std::vector<std::string> inputs;  ///< text files, one document each
  std::string out;                  ///< directory to write
  bool force = false;               ///< write into a directory that holds something
  std::string tokenizer = "bytes";  ///< a tokenizer.json, "bytes", "characters", or "train"
  int64_t vocabulary = 4096;        ///< of a tokenizer that is trained
  int64_t shard_tokens = int64_t{1} << 26;
  double validation_fraction = 0.05;
  bool as_bytes = false;  ///< inputs need not be UTF-8 text

  void describe(Fields& f);
};

struct TokenizeReport {
  int64_t bytes = 0;        ///< of text done
  int64_t total_bytes = 0;  ///< of text in all inputs
  int64_t train_tokens = 0;
  int64_t validation_tokens = 0;
  int64_t vocabulary = 0;
  double wall_s = 0;
  std::vector<std::string> notes;  ///< what a user should know
};

/// Encodes the inputs into `config.out`, a TokenDirectory: shards of the splits `train` and `validation`,
/// tokenizer.json, and last tokens.json.
///
/// The last part of each input is for validation (validation_begin); a trained tokenizer sees only what comes
/// before. Each part of a document ends with the token Tokenizer::end_of_text() if the tokenizer has one;
/// what its post-processor puts around texts (a first token) is not written. The files are the same for any
/// number of threads. `progress` is told now and then. Throws Error naming the file when an input is missing
/// or empty, or nothing is left to train on or to validate with.
TokenizeReport tokenize_files(const TokenizeConfig& config, ThreadPool& pool,
                              const std::function<void(const TokenizeReport&)>& progress = {});

}  // namespace tutti
