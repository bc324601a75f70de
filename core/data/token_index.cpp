#include <tutti/core/data/token_shards.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include "core/io/json.h"

#include <nlohmann/json.hpp>

#include <initializer_list>

namespace tutti {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kFormat = "tutti.tokens";

void require_keys(const Json& object, std::initializer_list<const char*> keys, const std::string& name) {
  require(object.is_object() && object.size() == keys.size(), "{}: expected an object with {} keys", name,
          keys.size());
  for (const char* key : keys) require(object.contains(key), "{}: expected a key '{}'", name, key);
}

std::string text_at(const Json& object, const char* key, const std::string& name) {
  require(object.at(key).is_string(), "{}: expected a string for '{}'", name, key);
  return object.at(key).get<std::string>();
}

int64_t count_at(const Json& object, const char* key, const std::string& name) {
  const Json& value = object.at(key);
  require(value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{1} << 62,
          "{}: expected a count for '{}'", name, key);
  return value.get<int64_t>();
}

}  // namespace

TokenIndex TokenIndex::parse(std::string_view text, const std::string& name) {
  require(!text.empty(), "{}: the file is empty", name);
  const Json root = parse_strict_json(text, name);
  require_keys(root, {"format", "vocabulary", "tokenizer_sha256", "splits"}, name);
  require(text_at(root, "format", name) == kFormat, "{}: format '{}'; expected '{}'", name,
          text_at(root, "format", name), kFormat);
  TokenIndex index;
  index.source = {count_at(root, "vocabulary", name), text_at(root, "tokenizer_sha256", name)};
  require(index.source.vocabulary >= 1 && index.source.vocabulary <= kMaxVocabulary,
          "{}: a vocabulary of {}; expected 1 to {}", name, index.source.vocabulary, kMaxVocabulary);
  require(root.at("splits").is_object(), "{}: expected an object for 'splits'", name);
  for (const auto& [split_name, list] : root.at("splits").items()) {
    require(list.is_array(), "{}: expected a list for split '{}'", name, split_name);
    Split& split = index.splits.emplace_back(Split{split_name, {}});
    for (const Json& item : list) {
      require_keys(item, {"file", "tokens", "sha256"}, name);
      Shard shard{text_at(item, "file", name), count_at(item, "tokens", name), text_at(item, "sha256", name)};
      require(is_plain_file_name(shard.file), "{}: '{}' is not a plain file name", name, shard.file);
      split.shards.push_back(std::move(shard));
    }
  }
  return index;
}

std::string TokenIndex::to_json() const {
  nlohmann::ordered_json root;
  root["format"] = kFormat;
  root["vocabulary"] = source.vocabulary;
  root["tokenizer_sha256"] = source.tokenizer_sha256;
  root["splits"] = nlohmann::ordered_json::object();
  for (const Split& split : splits) {
    auto& list = root["splits"][split.name] = nlohmann::ordered_json::array();
    for (const Shard& shard : split.shards) {
      list.push_back({{"file", shard.file}, {"tokens", shard.tokens}, {"sha256", shard.sha256}});
    }
  }
  return root.dump(2) + "\n";
}

std::vector<std::string> TokenIndex::split_names() const {
  std::vector<std::string> names;
  names.reserve(splits.size());
  for (const Split& split : splits) names.push_back(split.name);
  return names;
}

}  // namespace tutti
