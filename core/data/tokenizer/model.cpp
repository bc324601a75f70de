#include "core/data/tokenizer/model.h"
#include <tutti/core/data/tokenizer.h>

namespace tutti {

std::unique_ptr<TokenModel> read_token_model(const JsonEntry& entry) {
  // Old files have no type; it is then derived from the members.
  std::string type = entry.text("type", "");
  if (type.empty()) {
    type = !entry.null("merges")                     ? "BPE"
           : !entry.null("max_input_chars_per_word") ? "WordPiece"
           : !entry.null("unk_id")                   ? "Unigram"
                                                     : "WordLevel";
  }
  if (type == "BPE") return read_bpe(entry);
  if (type == "Unigram") return read_unigram(entry);
  if (type == "WordPiece") return read_word_piece(entry);
  entry.check(type == "WordLevel", "model '{}'; expected BPE, Unigram, WordPiece or WordLevel", shown(type));
  return read_word_level(entry);
}

TokenIds read_vocabulary(const JsonEntry& entry) {
  TokenIds ids;
  entry.check(entry.size() > 0, "the vocabulary is empty");
  // Some vocabularies have gaps, but a single huge id must not allocate memory for all ids below it.
  const size_t end = 2 * entry.size() + 1024;
  std::vector<bool> taken(end);
  ids.reserve(entry.size());
  for (const auto& [token, value] : entry.value().items()) {
    const bool is_id =
        value.is_number_unsigned() && value.get<uint64_t>() < static_cast<uint64_t>(kMaxVocabulary);
    entry.check(is_id, "expected an id below {} for token '{}'", kMaxVocabulary, shown(token));
    const auto id = value.get<size_t>();
    entry.check(id < end, "id {} in a vocabulary of {} tokens", id, entry.size());
    entry.check(!taken[id], "duplicate id {}", id);
    taken[id] = true;
    ids.emplace(token, static_cast<int32_t>(id));
  }
  return ids;
}

std::string byte_token(unsigned char byte) {
  return fmt::format("<0x{:02X}>", byte);
}

}  // namespace tutti
