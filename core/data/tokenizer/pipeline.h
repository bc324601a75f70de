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

/// Positions at which a document may be split so that the ids of the parts are the ids of the whole.
enum class Cuts : uint8_t {
  kNowhere,
  kWords,         ///< before white space that follows other characters: GPT-2's rule only
  kBeforeSpaces,  ///< between a letter or number and a space
  kAnywhere,      ///< each byte has one id
};

/// The parts of a tokenizer.json, in processing order: added tokens, normalizers, normalized added tokens,
/// pre-tokenizers, model.
struct Tokenizer::Tables {
  /// Reads the parts. Throws Error with `name` and the path of an entry that is not supported.
  Tables(std::string text, const std::string& name);

  std::string json, digest;
  std::vector<std::unique_ptr<Normalizer>> normalizers;
  std::vector<std::unique_ptr<PreTokenizer>> stages;
  std::unique_ptr<TokenModel> model;
  AddedVocabulary added;
  std::vector<std::unique_ptr<Decoder>> decoders;
  Frame frame;
  std::vector<std::string> tokens;  ///< by id, as in the file; empty if there is none
  std::vector<std::string> bytes;   ///< decoded tokens, if each is decoded separately
  Cuts cuts = Cuts::kNowhere;
  bool byte_level = false;                                      ///< the input of the model is bytes
  bool any_bytes = false;                                       ///< text need not be valid UTF-8
  bool lossless = false;                                        ///< decode(encode(x)) == x for any bytes
  PreTokenizer::WordEnd word_end = nullptr;                     ///< the only stage, if it has one
  std::optional<BpeModel> made_of;                              ///< of tokenizers that were created from one
  std::vector<std::pair<std::string, std::string>> companions;  ///< other files of the folder: name, content
  std::optional<std::string> end_of_text;                       ///< from the configuration in the folder

  /// Whether the last character of a text, a letter or number, is also one after normalization.
  [[nodiscard]] bool ends_a_word(std::string_view text) const;

 private:
  void read_parts(const JsonEntry& root, const std::string& name);
  void read_tokens(const JsonEntry& root, const std::string& name);
  void find_properties();
};

}  // namespace tutti
