#pragma once

#include <tutti/core/data/content.h>
#include <tutti/core/io/file.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

/// Name of the index in a directory of token shards.
inline constexpr std::string_view kTokenIndex = "tokens.json";
/// Its maximum size in bytes.
inline constexpr int64_t kMaxTokenIndexBytes = int64_t{64} << 20;

/// TokenSource::tokenizer_sha256 of ids whose tokenizer is not known.
inline constexpr std::string_view kNoTokenizer = "none";

/// The tokenizer of a token shard, as recorded in the shard.
struct TokenSource {
  int64_t vocabulary = 0;        ///< ids are 0 .. vocabulary - 1
  std::string tokenizer_sha256;  ///< Tokenizer::sha256(), or kNoTokenizer
  friend bool operator==(const TokenSource&, const TokenSource&) = default;
};

/// Token ids of one file, mapped: a safetensors file with one tensor, `tokens` (n), of U16, or of I32 when
/// the vocabulary is larger than 65536, and the metadata `vocabulary` and `tokenizer_sha256`.
class TokenShard {
 public:
  /// Throws Error naming the file if it is missing, truncated, or not a token shard in a safetensors file.
  static TokenShard open(const std::filesystem::path& path);
  /// The same for a file's bytes, which outlive the shard; `name` is its name in messages.
  static TokenShard parse(std::span<const std::byte> file, const std::string& name);

  [[nodiscard]] int64_t size() const noexcept { return size_; }
  /// Of the mapped file.
  [[nodiscard]] int64_t file_bytes() const noexcept {
    return mapping_ ? static_cast<int64_t>(mapping_->bytes().size()) : 0;
  }
  [[nodiscard]] const TokenSource& source() const noexcept { return source_; }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  /// Ids begin .. begin + out.size(). Throws Error naming the file and position of an id outside the
  /// vocabulary.
  void read(int64_t begin, std::span<int32_t> out) const;

 private:
  std::string name_;
  std::shared_ptr<const MappedFile> mapping_;
  std::span<const std::byte> data_;
  int64_t size_ = 0;
  int64_t element_bytes_ = 2;
  TokenSource source_;
};

/// Concatenated shards, as one sequence of ids.
class TokenCorpus {
 public:
  /// A split ("train", "validation") of a directory that `tutti data tokens` wrote. Throws Error naming the
  /// file if the index or a shard is missing or damaged, if a shard differs from its entry in the index, or
  /// if there is no such split.
  static TokenCorpus open(const std::filesystem::path& directory, std::string_view split);
  /// Throws Error naming the shard if their tokenizers differ, or if there are no tokens.
  explicit TokenCorpus(std::vector<TokenShard> shards);

  [[nodiscard]] int64_t size() const noexcept { return ends_.empty() ? 0 : ends_.back(); }
  [[nodiscard]] const TokenSource& source() const noexcept { return shards_.front().source(); }
  [[nodiscard]] const std::vector<TokenShard>& shards() const noexcept { return shards_; }
  /// The shards' files with the checksums of the index; without checksums if no index was read.
  [[nodiscard]] DataContent content() const;
  /// Ids begin .. begin + out.size() of the sequence; may span shards.
  void read(int64_t begin, std::span<int32_t> out) const;

 private:
  std::vector<TokenShard> shards_;
  std::vector<ContentFile> files_;
  std::vector<int64_t> ends_;
};

/// The content of tokens.json.
struct TokenIndex {
  struct Shard {
    std::string file;
    int64_t tokens = 0;
    std::string sha256;  ///< of the file
  };
  struct Split {
    std::string name;
    std::vector<Shard> shards;
  };
  TokenSource source;
  std::vector<Split> splits;

  /// Throws Error naming `name` and the key unless the text has exactly this form.
  static TokenIndex parse(std::string_view text, const std::string& name);
  [[nodiscard]] std::string to_json() const;
  /// The splits' names, for messages.
  [[nodiscard]] std::vector<std::string> split_names() const;
};

}  // namespace tutti
