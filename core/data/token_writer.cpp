#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/data/bpe_tables.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/data/split.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/error.h>

#include <unistd.h>

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

  void encode(std::string_view text, std::vector<int32_t>& ids) {
    TokenEncoder encoder = take();
    encoder.encode(text, ids, AddedTokens::kAsText);
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

/// A stretch of text that is encoded by itself, or (`id` >= 0) an added token.
struct Section {
  std::string_view text;
  int32_t id = -1;
};

/// Cuts a document where the ids of the parts are the ids of the whole. Without words to cut between, a
/// section is what stands between added tokens.
std::vector<Section> sections(const Tokenizer& tokenizer, std::string_view document) {
  std::vector<Section> all;
  const bool cut = tokenizer.model().split || tokenizer.model().merges.empty();
  const auto plain = [&](std::string_view text) {
    for (size_t begin = 0; begin < text.size();) {
      const size_t end = cut ? cut_point(text, std::min(begin + kSectionBytes, text.size())) : text.size();
      all.push_back({text.substr(begin, end - begin)});
      begin = end;
    }
  };
  AddedTokenFinder(tokenizer.model().added).split(document, plain, [&](int32_t id) {
    all.push_back({{}, id});
  });
  if (const auto end = tokenizer.added(kEndOfText)) all.push_back({{}, *end});
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

/// A directory beside `target` that takes its place when it is complete, and goes away if it never is.
class PendingDirectory {
 public:
  explicit PendingDirectory(const fs::path& target) : target_(target.lexically_normal()) {
    if (!target_.has_filename()) target_ = target_.parent_path();  // "out/"
    const bool replaceable = !fs::exists(target_) || fs::exists(target_ / kTokenIndex) ||
                             (fs::is_directory(target_) && fs::is_empty(target_));
    require(replaceable, "{}: exists and is no directory of token shards; it is left as it is",
            target_.string());
    path_ = target_.string() + fmt::format(".{}.tmp", getpid());
    std::error_code error;
    fs::create_directories(path_, error);
    require(!error, "{}: cannot be created: {}", path_.string(), error.message());
  }
  ~PendingDirectory() {
    std::error_code ignored;  // of a temporary directory
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  PendingDirectory(const PendingDirectory&) = delete;
  PendingDirectory& operator=(const PendingDirectory&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }

  void commit() {
    sync_directory(path_);
    const fs::path old = path_.string() + ".old";
    std::error_code error;
    if (fs::exists(target_)) fs::rename(target_, old, error);
    if (!error) fs::rename(path_, target_, error);
    require(!error, "{}: cannot take the place of {}: {}", path_.string(), target_.string(), error.message());
    path_.clear();
    sync_directory(fs::absolute(target_).parent_path());
    fs::remove_all(old, error);
    require(!error, "{}: cannot be removed: {}", old.string(), error.message());
  }

 private:
  fs::path target_, path_;
};

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
  f.value("tokenizer", tokenizer, "a tokenizer.json; `bytes`; or `train`, to train one on the inputs",
          not_empty());
  f.value("vocabulary", vocabulary, "tokens of a tokenizer that is trained", between(257, 1 << 24));
  f.value("shard_tokens", shard_tokens, "tokens in a file", at_least(1));
  f.value("validation_fraction", validation_fraction, "part of each input kept for validation",
          fraction_below_one());
}

TokenShardWriter::TokenShardWriter(fs::path directory, std::string split, TokenSource source,
                                   int64_t shard_tokens)
    : directory_(std::move(directory)), source_(std::move(source)), shard_tokens_(shard_tokens) {
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
  const std::string file = fmt::format("{}-{:05}.safetensors", split_.name, split_.shards.size());
  const bool narrow = source_.vocabulary <= 65536;
  const auto count = static_cast<int64_t>(pending_.size());
  SafetensorsWriter writer(
      directory_ / file, {{"tokens", narrow ? "U16" : "I32", {count}}},
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
  const std::vector<Document> documents = open_inputs(config);
  const Tokenizer tokenizer = make_tokenizer(config, documents, pool);
  const TokenSource source{tokenizer.vocabulary(), tokenizer.sha256()};
  TokenizeReport report{.vocabulary = tokenizer.vocabulary()};
  for (const Document& document : documents) {
    report.total_bytes += static_cast<int64_t>(document.train.size() + document.validation.size());
  }

  PendingDirectory directory(config.out);
  EncoderPool encoders(tokenizer);
  const auto write = [&](std::string_view text, TokenShardWriter& writer, int64_t& tokens) {
    if (text.empty()) return;
    const std::vector<Section> all = sections(tokenizer, text);
    for (size_t begin = 0; begin < all.size(); begin += kSectionsAtOnce) {
      const auto group = std::span(all).subspan(begin, std::min(kSectionsAtOnce, all.size() - begin));
      std::vector<std::vector<int32_t>> ids(group.size());
      pool.parallel_for(static_cast<int64_t>(group.size()), [&](int64_t i) {
        const auto k = static_cast<size_t>(i);
        if (group[k].id >= 0)
          ids[k].push_back(group[k].id);
        else
          encoders.encode(group[k].text, ids[k]);
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
  TokenShardWriter train(directory.path(), "train", source, config.shard_tokens);
  for (const Document& document : documents) write(document.train, train, report.train_tokens);
  require(report.train_tokens >= 2, "{}: too short: no two tokens are left to train on",
          config.inputs.front());
  index.splits.push_back(train.finish());
  if (config.validation_fraction > 0) {
    TokenShardWriter validation(directory.path(), "validation", source, config.shard_tokens);
    for (const Document& document : documents) {
      write(document.validation, validation, report.validation_tokens);
    }
    require(report.validation_tokens >= 2,
            "{}: too short: a fraction of {} leaves no two tokens for validation", config.inputs.front(),
            config.validation_fraction);
    index.splits.push_back(validation.finish());
  }
  tokenizer.save(directory.path() / "tokenizer.json");
  write_file_atomically(directory.path() / kTokenIndex, index.to_json());
  directory.commit();
  report.bytes = report.total_bytes;
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (progress) progress(report);
  return report;
}

}  // namespace tutti
