#include <tutti/core/error.h>
#include <tutti/core/io/file.h>
#include "core/data/tokenizer/pipeline.h"
#include "core/io/json.h"

#include <algorithm>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxConfigBytes = int64_t{64} << 20;

/// The second file of GPT-2's pair for the name of the first; empty for other names.
fs::path merges_beside(const fs::path& vocabulary) {
  const std::string name = vocabulary.filename().string();
  for (const auto& [first, second] : {std::pair{"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"}}) {
    if (!name.ends_with(first)) continue;
    return vocabulary.parent_path() / (name.substr(0, name.size() - std::string_view(first).size()) + second);
  }
  return {};
}

/// Source: Radford et al. 2019, the published files.
Tokenizer load_pair(const fs::path& vocabulary, const fs::path& merges) {
  const std::string name = vocabulary.string();
  const nlohmann::json root = parse_strict_json(read_text_file(vocabulary, kMaxTokenizerBytes), name);
  require(root.is_object(), "{}: expected a JSON object", name);
  const TokenIds ids = read_vocabulary({root, name});
  BpeModel model;
  for (const auto& [token, id] : ids) {
    require(!token.ends_with("</w>"),
            "{}: token '{}' ends with </w>: this is not a vocabulary of GPT-2's format; convert it to a "
            "tokenizer.json",
            name, shown(token));
    const auto i = static_cast<size_t>(id);
    if (i >= model.tokens.size()) model.tokens.resize(i + 1);
    const std::optional<std::string> bytes = bytes_of_symbols(token);
    model.tokens[i] = bytes.value_or(token);
    if (token == kEndOfText) {
      model.added.push_back({.content = token, .id = id});
    } else if (!bytes) {
      model.added.push_back({.content = token, .id = id, .special = false});
    }
  }
  std::sort(model.added.begin(), model.added.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  const std::string text = read_text_file(merges, kMaxTokenizerBytes);
  for (size_t begin = 0, line = 1; begin < text.size(); ++line) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view pair(text.data() + begin, end - begin);
    begin = end + 1;
    if (pair.ends_with('\r')) pair.remove_suffix(1);
    if (pair.empty() || pair.starts_with("#version")) continue;
    const size_t space = pair.find(' ');
    const auto left = ids.find(pair.substr(0, space));
    const auto right = space == std::string_view::npos ? ids.end() : ids.find(pair.substr(space + 1));
    require(left != ids.end() && right != ids.end(), "{}: line {}: expected two tokens of {}, got '{}'",
            merges.string(), line, name, shown(pair));
    model.merges.emplace_back(left->second, right->second);
  }
  return Tokenizer(std::move(model), name);
}

/// A token of a configuration: "</s>" or {"content": "</s>", ..}.
std::optional<std::string> named_token(const nlohmann::json& config, const char* key) {
  if (!config.is_object() || !config.contains(key)) return std::nullopt;
  const nlohmann::json& token = config.at(key);
  if (token.is_string()) return token.get<std::string>();
  if (token.is_object() && token.contains("content") && token.at("content").is_string()) {
    return token.at("content").get<std::string>();
  }
  return std::nullopt;
}

bool is_true(const nlohmann::json& config, const char* key) {
  return config.contains(key) && config.at(key).is_boolean() && config.at(key).get<bool>();
}

}  // namespace

Tokenizer Tokenizer::load(const fs::path& given) {
  std::error_code none;
  fs::path path = given;
  if (fs::is_directory(path, none)) {
    path = given / "tokenizer.json";
    if (!fs::exists(path, none) && fs::exists(given / "vocab.json", none)) path = given / "vocab.json";
    if (!fs::exists(path, none) && fs::exists(given / "tokenizer.model", none))
      path = given / "tokenizer.model";
  }
  require(
      path.extension() != ".model" && path.extension() != ".tiktoken",
      "{}: a tokenizer of SentencePiece or tiktoken; only tokenizer.json is read. transformers writes one: "
      "AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)",
      path.string());
  if (const fs::path merges = merges_beside(path); !merges.empty() && fs::exists(merges, none)) {
    return load_pair(path, merges);
  }
  auto tables = std::make_shared<Tables>(read_text_file(path, kMaxTokenizerBytes), path.string());

  nlohmann::json config, map;
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    const fs::path beside = path.parent_path() / name;
    if (!fs::is_regular_file(beside, none)) continue;
    std::string text = read_text_file(beside, kMaxConfigBytes);
    (map.is_null() && name == std::string_view("special_tokens_map.json") ? map : config) =
        parse_strict_json(text, beside.string());
    tables->companions.emplace_back(name, std::move(text));
  }
  const auto token = [&](const char* key) {
    const auto configured = named_token(config, key);
    return configured ? configured : named_token(map, key);
  };
  tables->end_of_text = token("eos_token");
  // AutoTokenizer creates another post-processor if the configuration has these keys.
  if (config.is_object() && (config.contains("add_bos_token") || config.contains("add_eos_token"))) {
    const auto framed = [&](const char* flag, const char* key) {
      std::vector<int32_t> ids;
      const auto name = token(key);
      if (!is_true(config, flag) || !name) return ids;
      auto id = tables->added.find(*name);
      if (const auto found = tables->model->vocabulary().find(*name);
          !id && found != tables->model->vocabulary().end()) {
        id = found->second;
      }
      require(id.has_value(), "{}: {} '{}' of tokenizer_config.json is not a token", path.string(), key,
              *name);
      ids.push_back(*id);
      return ids;
    };
    tables->frame = {framed("add_bos_token", "bos_token"), framed("add_eos_token", "eos_token")};
  }
  return Tokenizer(std::shared_ptr<const Tables>(std::move(tables)));
}

}  // namespace tutti
