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
/// Maximum size of a tokenizer.json; real files are far smaller.
inline constexpr int64_t kMaxTokenizerBytes = int64_t{256} << 20;
inline constexpr int64_t kMaxVocabulary = int64_t{1} << 24;

/// A token that matches its text as a whole, wherever that text occurs.
struct AddedToken {
  std::string content;
  int32_t id = 0;
  bool special = true;       ///< a control token such as <|endoftext|>, not text
  bool normalized = false;   ///< matched after the others, in normalized text
  bool single_word = false;  ///< only if it is not part of a longer word
  bool lstrip = false;       ///< includes the white space on its left
  bool rstrip = false;       ///< includes the white space on its right
};

/// Byte-level byte-pair encoding as data. Source: Sennrich et al. 2016, "Neural machine translation of rare
/// words with subword units", on bytes (Radford et al. 2019).
struct BpeModel {
  std::vector<std::string> tokens;                  ///< bytes of each id; empty if an id is not used
  std::vector<std::pair<int32_t, int32_t>> merges;  ///< pairs of ids in order of merging
  std::vector<AddedToken> added;
  bool split = true;           ///< words by GPT-2's rule; else the whole text is one word
  bool ignore_merges = false;  ///< a word that is a token is not split
};

/// How text that matches an added token is encoded.
enum class AddedTokens : uint8_t {
  kRecognise,  ///< as that token, like Hugging Face tokenizers
  kAsText,     ///< as any text: for untrusted input
};

/// A section of a document that is encoded separately, or (`id` >= 0) an added token.
struct TextSection {
  std::string_view text;
  int32_t id = -1;
  bool front = true;       ///< the document begins with it
  bool continues = false;  ///< it continues the previous section: no space is prepended
};

/// Turns text into token ids and back, as Hugging Face `tokenizers` does. A cheap handle; copies share the
/// vocabulary. All members may be called from several threads at once.
class Tokenizer {
 public:
  /// Checks the model: all 256 bytes have a token, merges and added tokens refer to matching tokens. Throws
  /// Error naming `name` and the entry.
  explicit Tokenizer(BpeModel model, const std::string& name = "tokenizer");

  /// One id for each byte, no merges: 256 ids.
  static Tokenizer bytes();
  /// Reads a Hugging Face `tokenizer.json`, or a folder with one, or GPT-2's pair of vocab.json (or
  /// encoder.json) and merges.txt (or vocab.bpe), given the first. Throws Error naming the file and an entry
  /// that is not supported: all entries that would give other ids than `tokenizers` are refused.
  ///
  /// tokenizer_config.json and special_tokens_map.json in the same folder are read for the keys that
  /// AutoTokenizer uses: add_bos_token, add_eos_token, bos_token and eos_token. Truncation and padding are
  /// ignored, as in AutoTokenizer.
  static Tokenizer load(const std::filesystem::path& path);
  /// The same for the text of a tokenizer.json; `name` is its name in messages.
  static Tokenizer from_json(std::string_view text, const std::string& name);

  /// Ids are 0 .. vocabulary() - 1; some may be unused.
  [[nodiscard]] int64_t vocabulary() const noexcept;
  /// The BpeModel of a tokenizer that was created from one. Throws Error for others.
  [[nodiscard]] const BpeModel& model() const;
  /// Id of an added token, by its text.
  [[nodiscard]] std::optional<int32_t> added(std::string_view content) const;
  /// Id of any token, by its text in tokenizer.json.
  [[nodiscard]] std::optional<int32_t> token_id(std::string_view token) const;
  /// The token that ends documents: eos_token of tokenizer_config.json, else the added token <|endoftext|>,
  /// else a common name of published models.
  [[nodiscard]] std::optional<int32_t> end_of_text() const;
  /// The first difference by which ids of this tokenizer are not valid for `expected`: a token that differs
  /// or is missing there, or a text with other ids. Empty if there is none. `expected` may have more tokens
  /// beyond the vocabulary.
  [[nodiscard]] std::optional<std::string> difference(const Tokenizer& expected) const;
  /// Whether decode(encode(x)) == x for any bytes x. True of byte-level models without normalizers.
  [[nodiscard]] bool lossless() const noexcept;

  /// Ids of a text, without those that the post-processor adds. For large texts use a TokenEncoder, which
  /// caches words. Throws Error if the text is not valid UTF-8 and the tokenizer is not byte-level, or a
  /// character is unknown and there is no unknown token.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text,
                                            AddedTokens added = AddedTokens::kRecognise) const;
  /// Ids that the post-processor adds before a text: encode(.., add_special_tokens=True) of `tokenizers` is
  /// before(), the ids of the text, behind().
  [[nodiscard]] std::span<const int32_t> before() const noexcept;
  /// Ids that the post-processor adds after a text.
  [[nodiscard]] std::span<const int32_t> behind() const noexcept;
  /// The text of ids, including that of special tokens. Byte-level tokens may give bytes that are not valid
  /// UTF-8. Throws Error on an id outside the vocabulary.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids) const;

  /// Divides a document so that the ids of the parts are the ids of the whole: sections of about `bytes`, or
  /// of the text between added tokens if a split might change ids.
  [[nodiscard]] std::vector<TextSection> sections(std::string_view document, size_t bytes) const;

  /// The tokenizer.json, with the same bytes as read; the same text for the same BpeModel.
  [[nodiscard]] const std::string& to_json() const noexcept;
  /// Writes to_json() to a file, atomically, and the configuration that was read with it to the same folder.
  void save(const std::filesystem::path& path) const;
  /// SHA-256 of to_json(), by which token shards identify their tokenizer.
  [[nodiscard]] const std::string& sha256() const noexcept;

 private:
  friend class TokenEncoder;
  struct Tables;
  explicit Tokenizer(std::shared_ptr<const Tables> tables) : tables_(std::move(tables)) {}
  std::shared_ptr<const Tables> tables_;
};

/// Encodes large texts with a cache of the ids of words. Used by one thread at a time.
class TokenEncoder {
 public:
  /// `expected_bytes`: expected size of the text, which limits the cache; the maximum is 2 MiB.
  explicit TokenEncoder(Tokenizer tokenizer, size_t expected_bytes = size_t{1} << 30);
  ~TokenEncoder();
  TokenEncoder(TokenEncoder&&) noexcept;
  TokenEncoder& operator=(TokenEncoder&&) noexcept;

  /// Appends the ids of `text` to `ids`.
  void encode(std::string_view text, std::vector<int32_t>& ids, AddedTokens added = AddedTokens::kRecognise);
  /// Appends the ids of a section from Tokenizer::sections().
  void encode(const TextSection& section, std::vector<int32_t>& ids);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Decodes a stream of tokens; the concatenated text is decode() of all tokens.
class TokenDecoder {
 public:
  explicit TokenDecoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  /// The text that is complete with this token: empty while a character is incomplete. Throws Error like
  /// decode().
  std::string add(int32_t id);
  /// The remaining text at the end.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::vector<int32_t> ids_;  ///< the last tokens: text depends on few previous ones
  size_t returned_ = 0;       ///< bytes of their text that have been returned
};

/// The printable character for a byte in tokenizer.json: itself for printable Latin-1, else U+0100 and up in
/// order. Source: Radford et al. 2019, the published encoder.
char32_t byte_symbol(uint8_t byte);

/// A token's bytes as text of byte symbols, as in tokenizer.json.
std::string symbols_of_bytes(std::string_view bytes);
/// The inverse; empty if the text contains a character that is not a byte symbol.
std::optional<std::string> bytes_of_symbols(std::string_view text);

}  // namespace tutti
