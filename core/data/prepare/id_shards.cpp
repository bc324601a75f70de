#include <tutti/core/data/prepare/id_shards.h>
#include <tutti/core/error.h>
#include "core/counted.h"
#include "core/data/prepare/id_file.h"
#include "core/data/prepare/token_directory.h"

#include <algorithm>
#include <chrono>
#include <optional>

namespace tutti {
namespace {

constexpr int64_t kIdsAtOnce = int64_t{1} << 20;

/// Concatenated files, as one sequence of ids.
struct IdFiles {
  std::vector<IdFile> files;
  int64_t ids = 0;

  static IdFiles open(const std::vector<std::string>& paths, IdType type, int64_t vocabulary,
                      TokenizeReport& report) {
    IdFiles all;
    for (const std::string& path : paths) {
      all.files.push_back(IdFile::open(path, type, vocabulary));
      all.ids += all.files.back().size();
      report.notes.push_back(
          fmt::format("{}: {}, {}", path, all.files.back().format(), counted(all.files.back().size(), "id")));
    }
    return all;
  }
};

/// Writes ids [begin, end) of the sequence.
void copy_ids(const IdFiles& from, int64_t begin, int64_t end, TokenShardWriter& writer,
              const std::function<void(int64_t ids)>& progress) {
  std::vector<int32_t> some;
  int64_t first = 0;  // of the file
  for (const IdFile& file : from.files) {
    const int64_t last = std::min(end, first + file.size());
    for (int64_t at = std::max(begin, first); at < last;) {
      const int64_t n = std::min(kIdsAtOnce, last - at);
      some.resize(static_cast<size_t>(n));
      file.read(at - first, some);
      writer.add(some);
      progress(n);
      at += n;
    }
    first += file.size();
  }
}

}  // namespace

void ShardIdsConfig::describe(Fields& f) {
  f.value("train", train, "files of ids to train on", not_empty());
  f.value("validation", validation, "files of ids to validate with");
  f.value("out", out, "directory to write", not_empty());
  f.value("force", force, "write into a directory that is not empty");
  f.value("vocabulary", vocabulary, "ids are below this; 0: as many as the tokenizer has",
          between(0, static_cast<double>(kMaxVocabulary)));
  f.value("tokenizer", tokenizer, "the tokenizer.json of the ids; empty: unknown");
  f.value("type", type, "storage type of raw numbers");
  f.value("shard_tokens", shard_tokens, "tokens in a file", at_least(1));
  f.value("validation_fraction", validation_fraction, "fraction of the ids for validation",
          fraction_below_one());
}

TokenizeReport shard_ids(const ShardIdsConfig& config,
                         const std::function<void(const TokenizeReport&)>& progress) {
  const auto start = std::chrono::steady_clock::now();
  check_settings(config, "data tokens --ids");
  std::optional<Tokenizer> tokenizer;
  if (!config.tokenizer.empty()) tokenizer = Tokenizer::load(config.tokenizer);
  const int64_t vocabulary =
      config.vocabulary > 0 || !tokenizer ? config.vocabulary : tokenizer->vocabulary();
  require(vocabulary >= 1 && vocabulary <= kMaxVocabulary,
          "--ids: --vocabulary is needed (or --tokenizer): ids are 0 to vocabulary - 1, at most {}",
          kMaxVocabulary);
  require(!tokenizer || tokenizer->vocabulary() <= vocabulary, "--ids: {} has {} tokens, --vocabulary is {}",
          config.tokenizer, tokenizer ? tokenizer->vocabulary() : 0, vocabulary);
  TokenizeReport report{.vocabulary = vocabulary};
  const IdType type = id_type_from_name(config.type);
  const IdFiles training = IdFiles::open(config.train, type, vocabulary, report);
  const IdFiles apart = IdFiles::open(config.validation, type, vocabulary, report);
  // Without separate files, the last ids are used for validation.
  const bool own_files = !config.validation.empty();
  report.validation_tokens =
      own_files ? apart.ids
                : static_cast<int64_t>(static_cast<double>(training.ids) * config.validation_fraction);
  report.train_tokens = training.ids - (own_files ? 0 : report.validation_tokens);
  require(own_files || config.validation_fraction <= 0 || report.validation_tokens >= 2,
          "--ids: a fraction of {} of {} leaves fewer than two for validation", config.validation_fraction,
          counted(training.ids, "id"));
  require(report.train_tokens >= 2, "--ids: {}; at least two are needed to train on",
          counted(report.train_tokens, "id"));
  report.total_bytes = report.train_tokens + report.validation_tokens;

  std::vector<std::filesystem::path> inputs(config.train.begin(), config.train.end());
  inputs.insert(inputs.end(), config.validation.begin(), config.validation.end());
  if (tokenizer) inputs.emplace_back(config.tokenizer);
  TokenDirectory directory(config.out, config.force, std::move(inputs));
  const TokenSource source{vocabulary, tokenizer ? tokenizer->sha256() : std::string(kNoTokenizer)};
  const auto report_progress = [&](int64_t ids) {
    report.bytes += ids;
    if (progress) progress(report);
  };
  TokenIndex index{source, {}};
  TokenShardWriter train = directory.writer("train", source, config.shard_tokens);
  copy_ids(training, 0, report.train_tokens, train, report_progress);
  index.splits.push_back(train.finish());
  if (report.validation_tokens > 0) {
    TokenShardWriter validation = directory.writer("validation", source, config.shard_tokens);
    copy_ids(own_files ? apart : training, own_files ? 0 : report.train_tokens,
             own_files ? apart.ids : training.ids, validation, report_progress);
    index.splits.push_back(validation.finish());
  }
  directory.commit(index, tokenizer ? &*tokenizer : nullptr);
  report.wall_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace tutti
