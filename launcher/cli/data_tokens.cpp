#include "launcher/cli/checks.h"
#include "launcher/cli/data_commands.h"
#include "launcher/cli/status_line.h"

#include <tutti/core/data/prepare/id_shards.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/error.h>
#include "core/counted.h"

#include <CLI/CLI.hpp>

#include <memory>

namespace tutti {
namespace {

struct DataTokensArguments {
  TokenizeConfig text;
  ShardIdsConfig ids;
  int64_t train_tokenizer = 0;
  int64_t threads = 0;
};

void say_notes(const TokenizeReport& report, Console& console) {
  for (const std::string& note : report.notes) console.err << "note: " << note << '\n';
}

ExitCode write_text(const DataTokensArguments& options, Console& console) {
  TokenizeConfig config = options.text;
  if (options.train_tokenizer > 0) {
    config.tokenizer = "train";
    config.vocabulary = options.train_tokenizer;
  }
  ThreadPool pool(threads_or_all(options.threads));
  TokenizeReport report;
  {
    StatusLine status_line(console.err);
    report = tokenize_files(config, pool, [&](const TokenizeReport& now) {
      status_line.show(fmt::format("{} of {}", megabytes(static_cast<double>(now.bytes)),
                                   megabytes(static_cast<double>(now.total_bytes))));
    });
  }
  say_notes(report, console);
  console.out << fmt::format(
      "{}: {} of text in {:.1f} s, vocabulary {}, {} tokens to train on, {} to validate with\n", config.out,
      megabytes(static_cast<double>(report.bytes)), report.wall_s, report.vocabulary, report.train_tokens,
      report.validation_tokens);
  return ExitCode::kDone;
}

ExitCode write_ids(const DataTokensArguments& options, Console& console) {
  TokenizeReport report;
  {
    StatusLine status_line(console.err);
    report = shard_ids(options.ids, [&](const TokenizeReport& now) {
      status_line.show(fmt::format("{} of {} ids", grouped(now.bytes), grouped(now.total_bytes)));
    });
  }
  say_notes(report, console);
  console.out << fmt::format(
      "{}: {} ids in {:.1f} s, vocabulary {}, {} tokens to train on, {} to validate with\n", options.ids.out,
      report.bytes, report.wall_s, report.vocabulary, report.train_tokens, report.validation_tokens);
  return ExitCode::kDone;
}

}  // namespace

DataCommand add_data_tokens(CLI::App& data) {
  const auto options = std::make_shared<DataTokensArguments>();
  CLI::App* const app = data.add_subcommand("tokens", "Convert plain text or token ids to token shards");
  CLI::Option* const input = app->add_option("-i,--input", options->text.inputs, "Text files, UTF-8");
  CLI::Option* const ids =
      app->add_option(
             "--ids", options->ids.train,
             "Files of token ids instead of text: .npy, llm.c's .bin, or raw numbers (nanoGPT's .bin)")
          ->excludes(input);
  app->add_option("--validation-ids", options->ids.validation,
                  "Files of token ids for validation; default: the last part of --ids")
      ->needs(ids);
  app->add_option(
         "--ids-type", options->ids.type,
         "Type of raw numbers: uint16, int32, uint32, ...; auto: uint16 for a vocabulary of up to 65536")
      ->needs(ids)
      ->capture_default_str();
  app->add_option("--vocabulary", options->ids.vocabulary, "Ids are below this; default: --tokenizer's")
      ->needs(ids)
      ->check(between_numbers(1));
  app->add_option("-o,--out", options->text.out, "Directory to write, new or empty")->required();
  app->add_flag("--force", options->text.force,
                "Write into a directory that is not empty: replace earlier token shards, keep other files");
  app->add_option("--threads", options->threads, "Default: all cores")
      ->check(between_numbers(1, kMostThreads));
  CLI::Option* const given =
      app->add_option("--tokenizer", options->text.tokenizer,
                      "A tokenizer.json or a directory with one; `bytes`: one token per byte; or "
                      "`characters`: one token per character of the text");
  given->capture_default_str();
  app->add_option("--train-tokenizer", options->train_tokenizer,
                  "First train a tokenizer of this vocabulary size (256 bytes and more)")
      ->check(between_numbers(257, 1 << 24))
      ->excludes(given)
      ->excludes(ids);
  app->add_option("--validation", options->text.validation_fraction, "Fraction of each text for validation")
      ->check(between_numbers(0, 0.9))
      ->capture_default_str();
  app->add_option("--shard-tokens", options->text.shard_tokens, "Tokens per file")
      ->check(between_numbers(1))
      ->capture_default_str();
  app->add_flag("--as-bytes", options->text.as_bytes,
                "Read inputs unchanged, including byte-order marks and invalid UTF-8")
      ->excludes(ids);
  app->callback([options] {
    if (options->text.inputs.empty() && options->ids.train.empty())
      throw CLI::RequiredError("--input or --ids");
  });
  const auto action = [options, given](Console& console) {
    if (options->ids.train.empty()) return write_text(*options, console);
    options->ids.out = options->text.out;
    options->ids.force = options->text.force;
    options->ids.shard_tokens = options->text.shard_tokens;
    options->ids.validation_fraction = options->text.validation_fraction;
    if (given->count() > 0) options->ids.tokenizer = options->text.tokenizer;
    return write_ids(*options, console);
  };
  return {app, action};
}

}  // namespace tutti
