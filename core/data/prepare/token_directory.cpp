#include "core/data/prepare/token_directory.h"
#include <tutti/core/error.h>
#include <tutti/core/io/sha256.h>

#include <algorithm>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFile = "tokenizer.json";
constexpr int64_t kMostTokenizerBytes = int64_t{1} << 30;

bool is_tokenizer_of(const fs::path& path, const TokenSource& source) try {
  return sha256(read_text_file(path, kMostTokenizerBytes)) == source.tokenizer_sha256 ||
         Tokenizer::load(path).sha256() == source.tokenizer_sha256;
} catch (const Error&) {
  return false;
}

bool is_shard_of(const fs::path& path, const TokenSource& source) try {
  return path.extension() == ".safetensors" && TokenShard::open(path).source() == source;
} catch (const Error&) {
  return false;
}

/// The files of an earlier call in the directory: those in its index that match the index.
std::vector<std::string> earlier_shards(const fs::path& directory) {
  const fs::path path = directory / kTokenIndex;
  std::error_code none;
  if (!fs::is_regular_file(path, none)) return {};
  std::vector<std::string> names;
  try {
    const TokenIndex index = TokenIndex::parse(read_text_file(path, kMaxTokenIndexBytes), path.string());
    for (const TokenIndex::Split& split : index.splits) {
      for (const TokenIndex::Shard& shard : split.shards) {
        if (is_shard_of(directory / shard.file, index.source)) names.push_back(shard.file);
      }
    }
    if (is_tokenizer_of(directory / kTokenizerFile, index.source)) names.emplace_back(kTokenizerFile);
  } catch (const Error&) {
    return {};  // not an index: not changed
  }
  names.emplace_back(kTokenIndex);
  return names;
}

/// A suffix of the splits' names so that new shards get unused names: the earlier shards are complete until
/// the new index replaces theirs.
std::string free_suffix(const fs::path& directory) {
  std::vector<std::string> taken;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory)) {
    taken.push_back(entry.path().filename().string());
  }
  std::string suffix;
  const auto collides = [&](const std::string& name) {
    return name.starts_with(fmt::format("train{}-0", suffix)) ||
           name.starts_with(fmt::format("validation{}-0", suffix));
  };
  for (int revision = 2; std::any_of(taken.begin(), taken.end(), collides); ++revision) {
    suffix = fmt::format("-r{}", revision);
  }
  return suffix;
}

DirectoryRules rules_of(bool force, std::vector<fs::path> inputs) {
  return {.force = force,
          .inputs = std::move(inputs),
          .names = {kTokenizerFile, std::string(kTokenIndex)},
          .index = std::string(kTokenIndex),
          .earlier = &earlier_shards};
}

}  // namespace

TokenDirectory::TokenDirectory(const fs::path& path, bool force, std::vector<fs::path> inputs)
    : target_(path, rules_of(force, std::move(inputs))), suffix_(free_suffix(target_.path())) {}

TokenShardWriter TokenDirectory::writer(const std::string& split, TokenSource source, int64_t shard_tokens) {
  return TokenShardWriter([this](const std::string& name) { return target_.add(name); }, split + suffix_,
                          split, std::move(source), shard_tokens);
}

void TokenDirectory::commit(const TokenIndex& index, const Tokenizer* tokenizer) {
  if (tokenizer != nullptr) add(kTokenizerFile, tokenizer->to_json());
  add(std::string(kTokenIndex), index.to_json());
  target_.commit();
}

void TokenDirectory::add(const std::string& name, std::string_view text) {
  OutputFile file = target_.add(name);
  file.write(text);
  file.finish();
}

}  // namespace tutti
