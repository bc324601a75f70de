#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/error.h>
#include "core/data/prepare/character_tokenizer.h"
#include "core/data/prepare/documents.h"
#include "core/data/prepare/token_directory.h"
#include "core/data/split.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr size_t kSectionBytes = size_t{1} << 18;
constexpr size_t kSectionsAtOnce = 64;  // read, encoded in parallel, then written

/// One encoder per thread; each caches the words that it has encoded.
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

bool names_a_file(std::string_view tokenizer) {
  return tokenizer != "bytes" && tokenizer != "characters" && tokenizer != "train";
}

Tokenizer make_tokenizer(const TokenizeConfig& config, const std::vector<Document>& documents,
                         ThreadPool& pool, TokenizeReport& report) {
  if (config.tokenizer == "bytes") return Tokenizer::bytes();
  if (names_a_file(config.tokenizer)) return Tokenizer::load(config.tokenizer);
  std::vector<std::string_view> texts;
  texts.reserve(documents.size());
  for (const Document& document : documents) texts.push_back(document.train);
  if (config.tokenizer == "characters") return character_tokenizer(texts, pool);
  BpeTrainReport training;
  Tokenizer tokenizer = train_bpe(texts, {.vocabulary = config.vocabulary, .report = &training}, pool);
  for (const std::string& note : training.notes()) report.notes.push_back("tokenizer: " + note);
  return tokenizer;
}

}  // namespace

void TokenizeConfig::describe(Fields& f) {
  f.value("inputs", inputs, "text files, one document each", not_empty());
  f.value("out", out, "directory to write", not_empty());
  f.value("force", force, "write into a directory that is not empty");
  f.value("tokenizer", tokenizer,
          "a tokenizer.json or a directory with one; `bytes`; `characters` (of the inputs); or `train` (on "
          "the inputs)",
          not_empty());
  f.value("vocabulary", vocabulary, "vocabulary size of a trained tokenizer", between(257, 1 << 24));
  f.value("shard_tokens", shard_tokens, "tokens in a file", at_least(1));
  f.value("validation_fraction", validation_fraction, "fraction of each input for validation",
          fraction_below_one());
  f.value("as_bytes", as_bytes, "read inputs unchanged, even if they are not valid UTF-8");
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
  const TextInput input = config.as_bytes ? TextInput::kBytes : TextInput::kUtf8;
  const std::vector<Document> documents =
      open_documents(config.inputs, config.validation_fraction, input, pool);
  std::vector<fs::path> inputs(config.inputs.begin(), config.inputs.end());
  if (names_a_file(config.tokenizer)) inputs.emplace_back(config.tokenizer);
  TokenDirectory directory(config.out, config.force, std::move(inputs));
  TokenizeReport report;
  const Tokenizer tokenizer = make_tokenizer(config, documents, pool, report);
  const TokenSource source{tokenizer.vocabulary(), tokenizer.sha256()};
  report.vocabulary = tokenizer.vocabulary();
  for (const Document& document : documents) {
    report.total_bytes += static_cast<int64_t>(document.train.size() + document.validation.size());
    if (document.file.had_mark) report.notes.push_back(document.name + ": removed a byte-order mark");
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
  // The shorter part first: if it has too few tokens, the error is reported early.
  std::optional<TokenIndex::Split> apart;
  if (config.validation_fraction > 0) {
    TokenShardWriter validation = directory.writer("validation", source, config.shard_tokens);
    for (const Document& document : documents) {
      write(document.validation, validation, report.validation_tokens);
    }
    require(report.validation_tokens >= 2,
            "{}: too short: a fraction of {} leaves fewer than two tokens for validation",
            config.inputs.front(), config.validation_fraction);
    apart = validation.finish();
  }
  TokenShardWriter train = directory.writer("train", source, config.shard_tokens);
  for (const Document& document : documents) write(document.train, train, report.train_tokens);
  require(report.train_tokens >= 2, "{}: too short: fewer than two tokens are left to train on",
          config.inputs.front());
  index.splits.push_back(train.finish());
  if (apart) index.splits.push_back(*std::move(apart));
  directory.commit(index, &tokenizer);
  report.bytes = report.total_bytes;
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (progress) progress(report);
  return report;
}

}  // namespace tutti
