#include <tutti/core/error.h>
#include "core/data/tokenizer/pipeline.h"

#include <nlohmann/json.hpp>

namespace tutti {
namespace {

/// JSON text of a string. Added tokens are UTF-8, others are symbols.
std::string json_text(std::string_view text) {
  return nlohmann::json(text).dump();
}

void check(const BpeModel& model, const std::string& name) {
  require(static_cast<int64_t>(model.tokens.size()) <= kMaxVocabulary,
          "{}: a vocabulary of {} tokens; the maximum is {}", name, model.tokens.size(), kMaxVocabulary);
  const auto known = [&](int32_t id) { return id >= 0 && static_cast<size_t>(id) < model.tokens.size(); };
  for (const AddedToken& token : model.added) {
    require(!token.content.empty() && known(token.id) &&
                model.tokens[static_cast<size_t>(token.id)] == token.content,
            "{}: added token '{}' and id {} do not match the vocabulary", name, token.content, token.id);
  }
  for (size_t rank = 0; rank < model.merges.size(); ++rank) {
    const auto [left, right] = model.merges[rank];
    require(known(left) && known(right), "{}: merge {} joins ids {} and {}; the vocabulary has {}", name,
            rank, left, right, model.tokens.size());
  }
}

std::string write(const BpeModel& m) {
  std::vector<bool> is_added(m.tokens.size());
  std::vector<std::string> added, vocab, merges;
  for (const AddedToken& token : m.added) {
    is_added[static_cast<size_t>(token.id)] = true;
    added.push_back(fmt::format(R"(
    {{"id": {}, "content": {}, "single_word": {}, "lstrip": {}, "rstrip": {}, "normalized": {}, "special": {}}})",
                                token.id, json_text(token.content), token.single_word, token.lstrip,
                                token.rstrip, token.normalized, token.special));
  }
  const auto symbols = [&](int32_t id) {
    const std::string& bytes = m.tokens[static_cast<size_t>(id)];
    return is_added[static_cast<size_t>(id)] ? bytes : symbols_of_bytes(bytes);
  };
  for (int32_t id = 0; id < static_cast<int32_t>(m.tokens.size()); ++id) {
    if (m.tokens[static_cast<size_t>(id)].empty()) continue;
    vocab.push_back(fmt::format("\n      {}: {}", json_text(symbols(id)), id));
  }
  for (const auto& [left, right] : m.merges) {
    merges.push_back(fmt::format("\n      {}", json_text(symbols(left) + " " + symbols(right))));
  }
  return fmt::format(R"({{
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [{}],
  "normalizer": null,
  "pre_tokenizer": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": {}}},
  "post_processor": null,
  "decoder": {{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": {}}},
  "model": {{
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": {},
    "vocab": {{{}
    }},
    "merges": [{}]
  }}
}}
)",
                     fmt::join(added, ","), m.split, m.split, m.ignore_merges, fmt::join(vocab, ","),
                     fmt::join(merges, ","));
}

}  // namespace

Tokenizer::Tokenizer(BpeModel model, const std::string& name) {
  check(model, name);
  auto tables = std::make_shared<Tables>(write(model), name);
  require(tables->byte_level, "{}: a byte-level vocabulary has a token for each of the 256 bytes", name);
  tables->made_of = std::move(model);
  tables_ = std::move(tables);
}

}  // namespace tutti
