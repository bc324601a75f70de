#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tutti {

inline constexpr std::string_view kEndOfText = "<|endoftext|>";
/// What a tokenizer.json may hold at most; real files are far below.
inline constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;
inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;

/// A token that stands for its text as a whole, wherever that text occurs.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = true;      ///< a mark such as <|endoftext|>, not text
  bool normalized = false;  ///< such tokens are looked for after the others; no normaliser is applied
};

/// Byte-level byte-pair encoding as data. Source: Sennrich et al. 2016, "Neural machine translation of rare
/// words with subword units", on bytes (Radford et al. 2019).
struct BpeModel {
  std::vector<std::string> tokens;                  ///< bytes of each id; empty where an id is not used
  std::vector<std::pair<int32_t, int32_t>> merges;  ///< pairs of ids, the first is merged first
  std::vector<AddedToken> added;
  bool split = true;           ///< words by GPT-2's rule; else the whole text is one word
  bool ignore_merges = false;  ///< a word that is a token stays whole
};

/// How text that spells an added token is read.
enum class AddedTokens : uint8_t {
  kRecognise,  ///< as that token, like Hugging Face tokenizers
  kAsText,     ///< as any text: for input that nobody checked
};

/// Turns bytes into token ids and back, without loss for any bytes: decode(encode(x)) == x. A cheap handle;
/// copies share the vocabulary. All members may be called from several threads at once.
class Tokenizer {
 public:
  /// Checks the model: all 256 bytes have a token, merges and added tokens refer to tokens that fit. Throws
  /// Error naming `name` and the entry.
  explicit Tokenizer(BpeModel model, const std::string& name = "tokenizer");

  /// One id for each byte, no merges: 256 ids.
  static Tokenizer bytes();
  /// Reads a Hugging Face `tokenizer.json` of a byte-level BPE: model BPE (merges as "a b" or ["a", "b"]),
  /// pre-tokenizer and decoder ByteLevel, no normaliser. Throws Error naming the file and what is not
  /// supported: what would give other ids than the original is refused.
  static Tokenizer load(const std::filesystem::path& path);
  /// The same for a text that messages call `name`.
  static Tokenizer from_json(std::string_view text, const std::string& name);

  /// Ids are 0 .. vocabulary() - 1.
  [[nodiscard]] int64_t vocabulary() const noexcept;
  [[nodiscard]] const BpeModel& model() const noexcept;
  /// Id of an added token, by its text.
  [[nodiscard]] std::optional<int32_t> added(std::string_view content) const;

  /// Ids of a text. For much text keep a TokenEncoder: it remembers words.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text,
                                            AddedTokens added = AddedTokens::kRecognise) const;
  /// The bytes that ids stand for; special tokens stand as their text. Throws Error on an id outside the
  /// vocabulary.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids) const;

  /// The tokenizer.json that Hugging Face tokenizers and from_json read; the same text for the same model.
  [[nodiscard]] std::string to_json() const;
  /// Writes to_json() to a file, atomically.
  void save(const std::filesystem::path& path) const;
  /// SHA-256 of to_json(): what token shards remember of the tokenizer that wrote them.
  [[nodiscard]] const std::string& sha256() const noexcept;

 private:
  friend class TokenEncoder;
  struct Tables;
  std::shared_ptr<const Tables> tables_;
};

/// Encodes much text: keeps the ids of the words it met. For one thread at a time.
class TokenEncoder {
 public:
  /// `expected_bytes` of text are to come: memory for words is no larger than that needs, 2 MiB at most.
  explicit TokenEncoder(Tokenizer tokenizer, size_t expected_bytes = size_t{1} << 30);
  ~TokenEncoder();
  TokenEncoder(TokenEncoder&&) noexcept;
  TokenEncoder& operator=(TokenEncoder&&) noexcept;

  /// Appends the ids of `text` to `ids`.
  void encode(std::string_view text, std::vector<int32_t>& ids, AddedTokens added = AddedTokens::kRecognise);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The printable character that stands for a byte in tokenizer.json: itself for printable Latin-1, else
/// U+0100 and up in order. Source: Radford et al. 2019, the published encoder.
char32_t byte_symbol(uint8_t byte);

/// A token's bytes as text of byte symbols, as in tokenizer.json.
std::string symbols_of_bytes(std::string_view bytes);
/// The inverse; empty if the text holds a character that is no byte symbol.
std::optional<std::string> bytes_of_symbols(std::string_view text);

}  // namespace tutti
