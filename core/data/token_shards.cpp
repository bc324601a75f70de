#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/data/token_shards.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace tutti {
namespace {

template <class Stored>
void widen(std::span<const std::byte> data, int64_t begin, std::span<int32_t> out) {
  // By memcpy: other writers may not have aligned the data.
  const std::byte* from = data.data() + static_cast<size_t>(begin) * sizeof(Stored);
  for (size_t i = 0; i < out.size(); ++i) {
    Stored value;
    std::memcpy(&value, from + i * sizeof(Stored), sizeof value);
    out[i] = static_cast<int32_t>(value);
  }
}

std::string metadata(const SafetensorsHeader& header, const std::string& key, const std::string& name) {
  const auto found = header.metadata.find(key);
  require(found != header.metadata.end(), "{}: not a token shard: its metadata has no '{}'", name, key);
  return found->second;
}

}  // namespace

TokenShard TokenShard::open(const std::filesystem::path& path) {
  std::shared_ptr<const MappedFile> mapping = MappedFile::open(path);
  TokenShard shard = parse(mapping->bytes(), path.string());
  shard.mapping_ = std::move(mapping);
  return shard;
}

TokenShard TokenShard::parse(std::span<const std::byte> file, const std::string& name) {
  const SafetensorsHeader header = parse_safetensors(file, name);
  require(header.entries.size() == 1 && header.entries.front().name == "tokens",
          "{}: not a token shard: expected the single tensor 'tokens'", name);
  const SafetensorsEntry& entry = header.entries.front();
  require(entry.dtype == "U16" || entry.dtype == "I32", "{}: tokens of dtype {}; expected U16 or I32", name,
          entry.dtype);
  require(entry.shape.size() == 1, "{}: tokens of shape {}; expected one dim", name, to_string(entry.shape));

  TokenShard shard;
  shard.name_ = name;
  shard.data_ =
      file.subspan(static_cast<size_t>(header.data_begin + entry.begin), static_cast<size_t>(entry.bytes()));
  shard.size_ = entry.shape.front();
  shard.element_bytes_ = safetensors_element_size(entry.dtype);
  shard.source_.tokenizer_sha256 = metadata(header, "tokenizer_sha256", name);
  const std::string size = metadata(header, "vocabulary", name);
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), shard.source_.vocabulary);
  require(error == std::errc{} && end == size.data() + size.size() && shard.source_.vocabulary >= 1 &&
              shard.source_.vocabulary <= kMaxVocabulary,
          "{}: a vocabulary of '{}'; expected 1 to {}", name, size, kMaxVocabulary);
  return shard;
}

void TokenShard::read(int64_t begin, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  require(begin >= 0 && begin <= size_ && count <= size_ - begin, "{}: tokens {} to {} requested; it has {}",
          name_, begin, begin + count, size_);
  if (element_bytes_ == 2)
    widen<uint16_t>(data_, begin, out);
  else
    widen<int32_t>(data_, begin, out);
  const auto vocabulary = static_cast<uint32_t>(source_.vocabulary);
  const auto bad = std::find_if(out.begin(), out.end(),
                                [&](int32_t id) { return static_cast<uint32_t>(id) >= vocabulary; });
  require(bad == out.end(), "{}: token {} has id {}; the vocabulary has {}", name_,
          begin + (bad - out.begin()), bad == out.end() ? 0 : *bad, vocabulary);
}

TokenCorpus::TokenCorpus(std::vector<TokenShard> shards) : shards_(std::move(shards)) {
  require(!shards_.empty(), "token corpus: no shards");
  int64_t total = 0;
  for (const TokenShard& shard : shards_) {
    require(shard.source() == source(),
            "{}: made with another tokenizer (vocabulary {}, SHA-256 {}) than {} (vocabulary {}, SHA-256 {})",
            shard.name(), shard.source().vocabulary, shard.source().tokenizer_sha256, shards_.front().name(),
            source().vocabulary, source().tokenizer_sha256);
    total += shard.size();
    ends_.push_back(total);
  }
  require(total > 0, "{}: no tokens", shards_.front().name());
}

TokenCorpus TokenCorpus::open(const std::filesystem::path& directory, std::string_view split) {
  const std::filesystem::path path = directory / kTokenIndex;
  require(std::filesystem::is_directory(directory), "{}: no such directory", directory.string());
  require(std::filesystem::exists(path), "{}: contains no {}: not a directory of token shards, or incomplete",
          directory.string(), kTokenIndex);
  const TokenIndex index = TokenIndex::parse(read_text_file(path, kMaxTokenIndexBytes), path.string());
  const auto found =
      std::find_if(index.splits.begin(), index.splits.end(),
                   [&](const TokenIndex::Split& candidate) { return candidate.name == split; });
  require(found != index.splits.end() && !found->shards.empty(), "{}: no split '{}'; it has: {}",
          path.string(), split, fmt::join(index.split_names(), ", "));
  std::vector<TokenShard> shards;
  std::vector<ContentFile> files;
  for (const TokenIndex::Shard& entry : found->shards) {
    TokenShard shard = TokenShard::open(directory / entry.file);
    require(shard.size() == entry.tokens, "{}: {} tokens; {} records {}", shard.name(), shard.size(),
            path.string(), entry.tokens);
    require(shard.source() == index.source, "{}: made with another tokenizer than {} records", shard.name(),
            path.string());
    files.push_back({.path = directory / entry.file,
                     .name = entry.file,
                     .bytes = shard.file_bytes(),
                     .sha256 = entry.sha256,
                     .recorded_in = path.string()});
    shards.push_back(std::move(shard));
  }
  TokenCorpus corpus(std::move(shards));
  corpus.files_ = std::move(files);
  return corpus;
}

DataContent TokenCorpus::content() const {
  DataContent content;
  content.files = files_;
  content.facts = {fmt::format("tokens {}", size()), fmt::format("vocabulary {}", source().vocabulary),
                   fmt::format("tokenizer {}", source().tokenizer_sha256)};
  return content;
}

void TokenCorpus::read(int64_t begin, std::span<int32_t> out) const {
  const auto count = static_cast<int64_t>(out.size());
  require(begin >= 0 && begin <= size() && count <= size() - begin,
          "token corpus {}: tokens {} to {} requested; it has {}", shards_.front().name(), begin,
          begin + count, size());
  auto i = static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin());
  for (size_t done = 0; done < out.size(); ++i) {
    const int64_t within = begin + static_cast<int64_t>(done) - (ends_[i] - shards_[i].size());
    const auto n = static_cast<size_t>(
        std::min<int64_t>(static_cast<int64_t>(out.size() - done), shards_[i].size() - within));
    shards_[i].read(within, out.subspan(done, n));
    done += n;
  }
}

}  // namespace tutti
