#pragma once

#include <tutti/core/data/tokenizer.h>
#include "core/data/tokenizer/added_tokens.h"
#include "core/data/tokenizer/decoder.h"
#include "core/data/tokenizer/model.h"
#include "core/data/tokenizer/normalizer.h"
#include "core/data/tokenizer/pre_tokenizer.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tutti {

/// Where a document may be cut so that the ids of the parts are the ids of the whole.
enum class Cuts : uint8_t {
  kNowhere,
  kWords,         ///< before white space that follows something else: GPT-2's rule alone
  kBeforeSpaces,  ///< between a letter or number and a space
  kAnywhere,      ///< each byte has its id
};

/// A tokenizer.json in parts. Text goes through: added tokens, normalizers, added tokens that are normalized,
/// pre-tokenizers, model.
struct Tokenizer::Tables {
  /// Reads the parts. Throws Error naming `name` and the place of what is not supported.
  Tables(std::string text, const std::string& name);

  std::string json, digest;
  std::vector<std::unique_ptr<Normalizer>> normalizers;
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  std::unique_ptr<TokenModel> model;
  AddedVocabulary added;
  std::vector<std::unique_ptr<Decoder>> decoders;
  Frame frame;
  std::vector<std::string> tokens;  ///< as the file writes them, by id; empty where there is none
  std::vector<std::string> bytes;   ///< what tokens decode to, where each does by itself
  Cuts cuts = Cuts::kNowhere;
  bool byte_level = false;                                      ///< the model takes bytes
  bool any_bytes = false;                                       ///< text that is not UTF-8 needs no care
  bool lossless = false;                                        ///< decode(encode(x)) == x for any bytes
  PreTokenizer::WordEnd word_end = nullptr;                     ///< the only stage, if it has one
  std::optional<BpeModel> made_of;                              ///< of tokenizers that were made here
  std::vector<std::pair<std::string, std::string>> companions;  ///< other files of the folder: name, content
  std::optional<std::string> end_of_text;                       ///< as the folder's configuration names it

  /// Whether the last character of a text, a letter or number, is one when it is normalized, too.
  [[nodiscard]] bool ends_a_word(std::string_view text) const;

 private:
  void read_parts(const JsonEntry& root, const std::string& name);
  void read_tokens(const JsonEntry& root, const std::string& name);
  void find_properties();
};

}  // namespace tutti
