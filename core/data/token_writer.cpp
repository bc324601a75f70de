#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/checkpoint/sha256.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/data/split.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/error.h>
#include <tutti/core/file/target.h>

#include <algorithm>
#include <chrono>
#include <mutex>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSectionBytes = size_t{1} << 18;
constexpr size_t kSectionsAtOnce = 64;  // read, encoded in parallel, then written

/// Encoders for as many threads as there are; each keeps the words that it met.
class EncoderPool {
 public:
  explicit EncoderPool(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void encode(const TextSection& section, std::vector<int32_t>& ids) {
    TokenEncoder encoder = take();
    encoder.encode(section, ids);
    const std::scoped_lock lock(mutex_);
    idle_.push_back(std::move(encoder));
  }

 private:
  TokenEncoder take() {
    const std::scoped_lock lock(mutex_);
    if (idle_.empty()) return TokenEncoder(tokenizer_);
    TokenEncoder encoder = std::move(idle_.back());
    idle_.pop_back();
    return encoder;
  }
  Tokenizer tokenizer_;
  std::mutex mutex_;
  std::vector<TokenEncoder> idle_;
};

/// A document's sections, and the token that ends it if the tokenizer has one.
std::vector<TextSection> sections(const Tokenizer& tokenizer, std::string_view document) {
  std::vector<TextSection> all = tokenizer.sections(document, kSectionBytes);
  if (const auto end = tokenizer.end_of_text()) all.push_back({{}, *end});
  return all;
}

/// Where the validation part of a document begins: at the first line behind 1 - fraction of it, or where
/// there is none, at the first white space.
size_t validation_begin(std::string_view text, double fraction) {
  if (fraction <= 0) return text.size();
  const auto target = static_cast<size_t>(static_cast<double>(text.size()) * (1 - fraction));
  const size_t line = text.find('\n', target);
  if (line != std::string_view::npos && line + 1 < text.size()) return line + 1;
  return cut_point(text, target);
}

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

/// What an earlier call wrote into the directory: what its index names, as far as it is what the index says.
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
    return {};  // not an index: left as it is
  }
  names.emplace_back(kTokenIndex);
  return names;
}

/// What to put behind the splits' names so that no file of the directory has the name of a new shard: the
/// earlier ones are complete until the new index takes the place of theirs.
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

void write_text(DirectoryTarget& directory, const std::string& name, std::string_view text) {
  OutputFile file = directory.add(name);
  file.write(text);
  file.finish();
}

struct Document {
  std::shared_ptr<const MappedFile> file;
  std::string_view train, validation;
};

std::vector<Document> open_inputs(const TokenizeConfig& config) {
  require(!config.inputs.empty(), "data tokens: no input files");
  std::vector<Document> documents;
  for (const std::string& path : config.inputs) {
    Document document{MappedFile::open(path), {}, {}};
    const auto bytes = document.file->bytes();
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    require(!text.empty(), "{}: the file is empty", path);
    const size_t cut = validation_begin(text, config.validation_fraction);
    document.train = text.substr(0, cut);
    document.validation = text.substr(cut);
    documents.push_back(std::move(document));
  }
  return documents;
}

Tokenizer make_tokenizer(const TokenizeConfig& config, const std::vector<Document>& documents,
                         ThreadPool& pool) {
  if (config.tokenizer == "bytes") return Tokenizer::bytes();
  if (config.tokenizer != "train") return Tokenizer::load(config.tokenizer);
  std::vector<std::string_view> texts;
  texts.reserve(documents.size());
  for (const Document& document : documents) texts.push_back(document.train);
  return train_bpe(texts, {.vocabulary = config.vocabulary}, pool);
}

}  // namespace

void TokenizeConfig::describe(Fields& f) {
  f.value("inputs", inputs, "text files, one document each", not_empty());
  f.value("out", out, "directory to write", not_empty());
  f.value("force", force, "write into a directory that holds something");
  f.value("tokenizer", tokenizer,
          "a tokenizer.json or a folder with one; `bytes`; or `train`, to train one on the inputs",
          not_empty());
  f.value("vocabulary", vocabulary, "tokens of a tokenizer that is trained", between(257, 1 << 24));
  f.value("shard_tokens", shard_tokens, "tokens in a file", at_least(1));
  f.value("validation_fraction", validation_fraction, "part of each input kept for validation",
          fraction_below_one());
}

TokenShardWriter::TokenShardWriter(fs::path directory, std::string split, TokenSource source,
                                   int64_t shard_tokens)
    : TokenShardWriter([directory = std::move(directory)](
                           const std::string& name) { return OutputFile(directory / name); },
                       split, split, std::move(source), shard_tokens) {}

TokenShardWriter::TokenShardWriter(std::function<OutputFile(const std::string&)> create, std::string stem,
                                   std::string split, TokenSource source, int64_t shard_tokens)
    : create_(std::move(create)),
      stem_(std::move(stem)),
      source_(std::move(source)),
      shard_tokens_(shard_tokens) {
  require(shard_tokens >= 1, "token shards: {} tokens in a shard", shard_tokens);
  split_.name = std::move(split);
}

void TokenShardWriter::add(std::span<const int32_t> ids) {
  for (const int32_t id : ids) {
    require(id >= 0 && id < source_.vocabulary, "token shards: id {} with a vocabulary of {}", id,
            source_.vocabulary);
  }
  while (!ids.empty()) {
    const auto room = static_cast<size_t>(shard_tokens_) - pending_.size();
    const auto some = ids.first(std::min(room, ids.size()));
    pending_.insert(pending_.end(), some.begin(), some.end());
    tokens_ += static_cast<int64_t>(some.size());
    ids = ids.subspan(some.size());
    if (static_cast<int64_t>(pending_.size()) == shard_tokens_) flush();
  }
}

void TokenShardWriter::flush() {
  const std::string file = fmt::format("{}-{:05}.safetensors", stem_, split_.shards.size());
  const bool narrow = source_.vocabulary <= 65536;
  const auto count = static_cast<int64_t>(pending_.size());
  SafetensorsWriter writer(
      create_(file), {{"tokens", narrow ? "U16" : "I32", {count}}},
      {{"vocabulary", std::to_string(source_.vocabulary)}, {"tokenizer_sha256", source_.tokenizer_sha256}});
  if (narrow) {
    const std::vector<uint16_t> halves(pending_.begin(), pending_.end());
    writer.write(std::as_bytes(std::span(halves)));
  } else {
    writer.write(std::as_bytes(std::span(pending_)));
  }
  writer.finish();
  split_.shards.push_back({file, count, writer.sha256()});
  pending_.clear();
}

TokenIndex::Split TokenShardWriter::finish() {
  if (!pending_.empty()) flush();
  return split_;
}

TokenizeReport tokenize_files(const TokenizeConfig& config, ThreadPool& pool,
                              const std::function<void(const TokenizeReport&)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  check_settings(config, "data tokens");
  const std::vector<Document> documents = open_inputs(config);
  DirectoryRules rules{.force = config.force,
                       .inputs = {config.inputs.begin(), config.inputs.end()},
                       .names = {kTokenizerFile, std::string(kTokenIndex)},
                       .index = std::string(kTokenIndex),
                       .earlier = &earlier_shards};
  if (config.tokenizer != "train" && config.tokenizer != "bytes") rules.inputs.emplace_back(config.tokenizer);
  DirectoryTarget directory(config.out, std::move(rules));
  const Tokenizer tokenizer = make_tokenizer(config, documents, pool);
  const TokenSource source{tokenizer.vocabulary(), tokenizer.sha256()};
  TokenizeReport report{.vocabulary = tokenizer.vocabulary()};
  for (const Document& document : documents) {
    report.total_bytes += static_cast<int64_t>(document.train.size() + document.validation.size());
  }

  EncoderPool encoders(tokenizer);
  const auto write = [&](std::string_view text, TokenShardWriter& writer, int64_t& tokens) {
    if (text.empty()) return;
    const std::vector<TextSection> all = sections(tokenizer, text);
    for (size_t begin = 0; begin < all.size(); begin += kSectionsAtOnce) {
      const auto group = std::span(all).subspan(begin, std::min(kSectionsAtOnce, all.size() - begin));
      std::vector<std::vector<int32_t>> ids(group.size());
      pool.parallel_for(static_cast<int64_t>(group.size()), [&](int64_t i) {
        const auto k = static_cast<size_t>(i);
        encoders.encode(group[k], ids[k]);
      });
      for (size_t k = 0; k < group.size(); ++k) {
        writer.add(ids[k]);
        report.bytes += static_cast<int64_t>(group[k].text.size());
      }
      tokens = writer.tokens();
      report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (progress) progress(report);
    }
  };

  TokenIndex index{source, {}};
  const std::string suffix = free_suffix(directory.path());
  const auto create = [&](const std::string& name) { return directory.add(name); };
  TokenShardWriter train(create, "train" + suffix, "train", source, config.shard_tokens);
  for (const Document& document : documents) write(document.train, train, report.train_tokens);
  require(report.train_tokens >= 2, "{}: too short: no two tokens are left to train on",
          config.inputs.front());
  index.splits.push_back(train.finish());
  if (config.validation_fraction > 0) {
    TokenShardWriter validation(create, "validation" + suffix, "validation", source, config.shard_tokens);
    for (const Document& document : documents) {
      write(document.validation, validation, report.validation_tokens);
    }
    require(report.validation_tokens >= 2,
            "{}: too short: a fraction of {} leaves no two tokens for validation", config.inputs.front(),
            config.validation_fraction);
    index.splits.push_back(validation.finish());
  }
  write_text(directory, kTokenizerFile, tokenizer.to_json());
  write_text(directory, std::string(kTokenIndex), index.to_json());
  directory.commit();
  report.bytes = report.total_bytes;
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (progress) progress(report);
  return report;
}

}  // namespace tutti
