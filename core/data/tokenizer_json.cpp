#include <tutti/core/checkpoint/json.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <unordered_map>

namespace tutti {
namespace {

using Json = nlohmann::json;

/// Reads the parts of a tokenizer.json into a BpeModel.
class Reader {
 public:
  Reader(const Json& root, const std::string& name) : root_(root), name_(name) {}

  BpeModel read() {
    check(root_.is_object(), "expected a JSON object");
    check(is_null(root_, "normalizer"), "a normalizer, which is not supported");
    read_pre_tokenizer();
    read_pipeline_end();
    const Json& model = object(root_, "model");
    check_model_options(model);
    model_.ignore_merges = flag(model, "ignore_merges", false);
    read_vocabulary(object(model, "vocab"));
    read_added_tokens();
    read_merges(array(model, "merges"));
    return std::move(model_);
  }

 private:
  template <class... Args>
  void check(bool ok, LocatedFormat<std::type_identity_t<Args>...> format, Args&&... args) const {
    if (!ok) fail("{}: {}", name_, fmt::format(format.text, std::forward<Args>(args)...));
  }
  static bool is_null(const Json& parent, const char* key) {
    return !parent.contains(key) || parent.at(key).is_null();
  }
  const Json& object(const Json& parent, const char* key) const {
    check(parent.contains(key) && parent.at(key).is_object(), "expected an object under '{}'", key);
    return parent.at(key);
  }
  const Json& array(const Json& parent, const char* key) const {
    check(parent.contains(key) && parent.at(key).is_array(), "expected a list under '{}'", key);
    return parent.at(key);
  }
  bool flag(const Json& parent, const char* key, bool otherwise) const {
    if (is_null(parent, key)) return otherwise;
    check(parent.at(key).is_boolean(), "expected true or false under '{}'", key);
    return parent.at(key).get<bool>();
  }
  std::string text(const Json& parent, const char* key) const {
    if (is_null(parent, key)) return "";
    check(parent.at(key).is_string(), "expected a text under '{}'", key);
    return parent.at(key).get<std::string>();
  }
  int32_t id(const Json& value, const std::string& token) const {
    check(value.is_number_unsigned() && value.get<uint64_t>() < static_cast<uint64_t>(kMaxVocabulary),
          "expected an id below {} for token '{}'", kMaxVocabulary, shown(token));
    return value.get<int32_t>();
  }
  static std::string shown(const std::string& token) {
    return token.size() <= 60 ? token : fmt::format("({} bytes)", token.size());
  }

  void read_pre_tokenizer() {
    const Json& pre = object(root_, "pre_tokenizer");
    check(text(pre, "type") == "ByteLevel", "pre_tokenizer '{}'; only ByteLevel is supported",
          text(pre, "type"));
    check(!flag(pre, "add_prefix_space", true), "add_prefix_space, which is not supported");
    model_.split = flag(pre, "use_regex", true);
  }

  void read_pipeline_end() const {
    const Json& decoder = object(root_, "decoder");
    check(text(decoder, "type") == "ByteLevel", "decoder '{}'; only ByteLevel is supported",
          text(decoder, "type"));
    if (!is_null(root_, "post_processor")) {
      // The ByteLevel one moves offsets, not ids; others insert tokens.
      const Json& post = object(root_, "post_processor");
      check(text(post, "type") == "ByteLevel", "post_processor '{}', which is not supported",
            text(post, "type"));
    }
  }

  void check_model_options(const Json& model) const {
    // Old files leave the type out.
    check(is_null(model, "type") || text(model, "type") == "BPE", "model '{}'; only BPE is supported",
          text(model, "type"));
    check(is_null(model, "dropout") || model.at("dropout") == 0, "BPE dropout, which is not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      check(text(model, key).empty(), "a {}, which is not supported", key);
    }
  }

  void read_vocabulary(const Json& vocab) {
    check(!vocab.empty(), "the vocabulary is empty");
    for (const auto& [symbols, value] : vocab.items()) {
      const int32_t token_id = id(value, symbols);
      by_symbols_.emplace(symbols, token_id);
      // A text of other characters is an added token, or a token that nothing encodes to.
      put(token_id, bytes_of_symbols(symbols).value_or(symbols), vocab.size());
    }
  }

  void put(int32_t token_id, const std::string& bytes, size_t entries) {
    check(!bytes.empty(), "the token with id {} is empty", token_id);
    // Some vocabularies have holes, but a single huge id must not make us reserve memory for all below it.
    check(static_cast<size_t>(token_id) < 2 * entries + 1024, "id {} in a vocabulary of {} tokens", token_id,
          entries);
    const auto i = static_cast<size_t>(token_id);
    if (i >= model_.tokens.size()) model_.tokens.resize(i + 1);
    check(model_.tokens[i].empty(), "id {} stands twice", token_id);
    model_.tokens[i] = bytes;
  }

  void read_added_tokens() {
    if (is_null(root_, "added_tokens")) return;
    const Json& list = array(root_, "added_tokens");
    const size_t entries = by_symbols_.size() + list.size();
    for (const Json& item : list) {
      check(item.is_object() && item.contains("id"), "expected objects with an id under 'added_tokens'");
      AddedToken token;
      token.content = text(item, "content");
      token.id = id(item.at("id"), token.content);
      token.special = flag(item, "special", false);
      token.normalized = flag(item, "normalized", !token.special);
      for (const char* key : {"single_word", "lstrip", "rstrip"}) {
        check(!flag(item, key, false), "added token '{}' with {}, which is not supported",
              shown(token.content), key);
      }
      const auto known = by_symbols_.find(token.content);
      if (known == by_symbols_.end()) {
        put(token.id, token.content, entries);
      } else {
        check(known->second == token.id, "added token '{}' has id {}, in the vocabulary it has {}",
              shown(token.content), token.id, known->second);
        model_.tokens[static_cast<size_t>(token.id)] = token.content;
      }
      model_.added.push_back(std::move(token));
    }
  }

  void read_merges(const Json& merges) {
    for (const Json& merge : merges) {
      std::string left, right;
      if (merge.is_string()) {
        const auto& both = merge.get_ref<const std::string&>();
        const size_t space = both.find(' ');
        check(space != std::string::npos && both.find(' ', space + 1) == std::string::npos,
              "merge {}: expected two tokens with a space between, got '{}'", model_.merges.size(),
              shown(both));
        left = both.substr(0, space);
        right = both.substr(space + 1);
      } else {
        check(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
              "merge {}: expected two tokens", model_.merges.size());
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      }
      model_.merges.emplace_back(merge_part(left), merge_part(right));
    }
  }

  int32_t merge_part(const std::string& symbols) const {
    const auto found = by_symbols_.find(symbols);
    check(found != by_symbols_.end() && bytes_of_symbols(symbols).has_value(),
          "merge {} names '{}', which is no token of the vocabulary", model_.merges.size(), shown(symbols));
    return found->second;
  }

  const Json& root_;
  const std::string& name_;
  BpeModel model_;
  std::unordered_map<std::string, int32_t> by_symbols_;
};

/// JSON text of a string. Added tokens come from JSON, so they are UTF-8; others are symbols.
std::string json_text(std::string_view text) {
  return Json(text).dump();
}

}  // namespace

Tokenizer Tokenizer::from_json(std::string_view text, const std::string& name) {
  require(static_cast<int64_t>(text.size()) <= kMaxTokenizerBytes, "{}: {} bytes; at most {} are possible",
          name, text.size(), kMaxTokenizerBytes);
  require(!text.empty(), "{}: the file is empty", name);
  const Json root = parse_strict_json(text, name);
  return Tokenizer(Reader(root, name).read(), name);
}

std::string Tokenizer::to_json() const {
  const BpeModel& m = model();
  std::vector<bool> is_added(m.tokens.size());
  std::vector<std::string> added, vocab, merges;
  for (const AddedToken& token : m.added) {
    is_added[static_cast<size_t>(token.id)] = true;
    added.push_back(fmt::format(R"(
    {{"id": {}, "content": {}, "single_word": false, "lstrip": false, "rstrip": false, "normalized": {}, "special": {}}})",
                                token.id, json_text(token.content), token.normalized, token.special));
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

}  // namespace tutti
