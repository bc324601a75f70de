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
  /// Files are `directory`/`split`-00000.safetensors and up. The directory must exist.
  TokenShardWriter(std::filesystem::path directory, std::string split, TokenSource source,
                   int64_t shard_tokens);
  /// The same, with files that `create` makes from their names: `stem`-00000.safetensors and up.
  TokenShardWriter(std::function<OutputFile(const std::string& name)> create, std::string stem,
                   std::string split, TokenSource source, int64_t shard_tokens);
  /// Throws Error on an id outside the vocabulary, or if a file cannot be written.
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

/// Settings of `tutti data tokens`, which converts plain text files to token shards.
struct TokenizeConfig {
  std::vector<std::string> inputs;  ///< text files, one document each
  std::string out;                  ///< directory to write
  bool force = false;               ///< write into a directory that is not empty
  std::string tokenizer = "bytes";  ///< a tokenizer.json, "bytes", "characters", or "train"
  int64_t vocabulary = 4096;        ///< of a tokenizer that is trained
  int64_t shard_tokens = int64_t{1} << 26;
  double validation_fraction = 0.05;
  bool as_bytes = false;  ///< inputs need not be UTF-8 text

  void describe(Fields& f);
};

struct TokenizeReport {
  int64_t bytes = 0;        ///< of text processed
  int64_t total_bytes = 0;  ///< of text in all inputs
  int64_t train_tokens = 0;
  int64_t validation_tokens = 0;
  int64_t vocabulary = 0;
  double wall_s = 0;
  std::vector<std::string> notes;  ///< messages for the user
};

/// Encodes the inputs into `config.out`, a TokenDirectory: shards of the splits `train` and `validation`,
/// tokenizer.json, and last tokens.json.
///
/// The last part of each input is for validation (validation_begin); a tokenizer is trained only on the part
/// before it. Each part of a document ends with the token Tokenizer::end_of_text() if the tokenizer has one;
/// tokens that its post-processor adds around texts are not written. The files are the same for any number
/// of threads. `progress` is called at intervals. Throws Error naming the file if an input is missing or
/// empty, or if too little text is left for training or validation.
TokenizeReport tokenize_files(const TokenizeConfig& config, ThreadPool& pool,
                              const std::function<void(const TokenizeReport&)>& progress = {});

}  // namespace tutti
