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
  bool special = true;       ///< a mark such as <|endoftext|>, not text
  bool normalized = false;   ///< looked for behind the others, in normalized text
  bool single_word = false;  ///< only where no word goes on beside it
  bool lstrip = false;       ///< takes the white space on its left
  bool rstrip = false;       ///< takes the white space on its right
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

/// A stretch of a document that is encoded by itself, or (`id` >= 0) an added token.
struct TextSection {
  std::string_view text;
  int32_t id = -1;
  bool front = true;       ///< the document begins with it
  bool continues = false;  ///< it goes on from the section before: no space is put before it
};

/// Turns text into token ids and back, as Hugging Face `tokenizers` does. A cheap handle; copies share the
/// vocabulary. All members may be called from several threads at once.
class Tokenizer {
 public:
  /// Checks the model: all 256 bytes have a token, merges and added tokens refer to tokens that fit. Throws
  /// Error naming `name` and the entry.
  explicit Tokenizer(BpeModel model, const std::string& name = "tokenizer");

  /// One id for each byte, no merges: 256 ids.
  static Tokenizer bytes();
  /// Reads a Hugging Face `tokenizer.json`, or a folder with one, or GPT-2's pair of vocab.json (or
  /// encoder.json) and merges.txt (or vocab.bpe) by the name of the first. Throws Error naming the file and
  /// the entry that is not supported: what would give other ids than `tokenizers` is refused.
  ///
  /// tokenizer_config.json and special_tokens_map.json beside it are read for what AutoTokenizer takes from
  /// them: add_bos_token, add_eos_token, bos_token and eos_token. Truncation and padding are left to batches,
  /// as AutoTokenizer does.
  static Tokenizer load(const std::filesystem::path& path);
  /// The same for the text of a tokenizer.json that messages call `name`.
  static Tokenizer from_json(std::string_view text, const std::string& name);

  /// Ids are 0 .. vocabulary() - 1; some may be unused.
  [[nodiscard]] int64_t vocabulary() const noexcept;
  /// What a tokenizer was made of that was made from a BpeModel. Throws Error for others.
  [[nodiscard]] const BpeModel& model() const;
  /// Id of an added token, by its text.
  [[nodiscard]] std::optional<int32_t> added(std::string_view content) const;
  /// Id of any token, by its text as tokenizer.json writes it.
  [[nodiscard]] std::optional<int32_t> token_id(std::string_view token) const;
  /// The token that ends documents: eos_token of tokenizer_config.json, else the added token <|endoftext|>,
  /// else one of the names that published families give it.
  [[nodiscard]] std::optional<int32_t> end_of_text() const;
  /// The first of what makes the ids of this tokenizer no ids of `expected`: a token that is another one
  /// there or is missing there, or a text with other ids. Empty where there is none. Tokens of `expected`
  /// beyond the vocabulary may be more.
  [[nodiscard]] std::optional<std::string> difference(const Tokenizer& expected) const;
  /// Whether decode(encode(x)) == x for any bytes x. True of byte-level models without normalizers.
  [[nodiscard]] bool lossless() const noexcept;

  /// Ids of a text, without those that the post-processor adds. For much text keep a TokenEncoder: it
  /// remembers words. Throws Error if the text is not UTF-8 and the tokenizer is not byte-level, or a
  /// character is unknown and there is no unknown token.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text,
                                            AddedTokens added = AddedTokens::kRecognise) const;
  /// Ids that the post-processor puts before a text: encode(.., add_special_tokens=True) of `tokenizers` is
  /// before(), the ids of the text, behind().
  [[nodiscard]] std::span<const int32_t> before() const noexcept;
  /// Ids that the post-processor puts behind a text.
  [[nodiscard]] std::span<const int32_t> behind() const noexcept;
  /// The text that ids stand for; special tokens stand as their text. Byte-level tokens may give bytes that
  /// are not UTF-8. Throws Error on an id outside the vocabulary.
  [[nodiscard]] std::string decode(std::span<const int32_t> ids) const;

  /// Cuts a document where the ids of the parts are the ids of the whole: sections of about `bytes`, or what
  /// is between added tokens where nothing proves that a cut changes no id.
  [[nodiscard]] std::vector<TextSection> sections(std::string_view document, size_t bytes) const;

  /// The tokenizer.json: as it was read, byte for byte; the same text for the same BpeModel.
  [[nodiscard]] const std::string& to_json() const noexcept;
  /// Writes to_json() to a file, atomically, and beside it the configuration that was read with it.
  void save(const std::filesystem::path& path) const;
  /// SHA-256 of to_json(): what token shards remember of the tokenizer that wrote them.
  [[nodiscard]] const std::string& sha256() const noexcept;

 private:
  friend class TokenEncoder;
  struct Tables;
  explicit Tokenizer(std::shared_ptr<const Tables> tables) : tables_(std::move(tables)) {}
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
  /// Appends the ids of a section that Tokenizer::sections() cut.
  void encode(const TextSection& section, std::vector<int32_t>& ids);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Text of tokens that come one by one, as a model writes them: all of it is decode() of all of them.
class TokenDecoder {
 public:
  explicit TokenDecoder(Tokenizer tokenizer) : tokenizer_(std::move(tokenizer)) {}
  /// The text that is known with this token: nothing while a character is not complete. Throws Error like
  /// decode().
  std::string add(int32_t id);
  /// What is left at the end.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  std::vector<int32_t> ids_;  ///< the last of them: text depends on few before it
  size_t told_ = 0;           ///< bytes of their text that were returned
};

/// The printable character that stands for a byte in tokenizer.json: itself for printable Latin-1, else
/// U+0100 and up in order. Source: Radford et al. 2019, the published encoder.
char32_t byte_symbol(uint8_t byte);

/// A token's bytes as text of byte symbols, as in tokenizer.json.
std::string symbols_of_bytes(std::string_view bytes);
/// The inverse; empty if the text holds a character that is no byte symbol.
std::optional<std::string> bytes_of_symbols(std::string_view text);

}  // namespace tutti
