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

struct Options {
  TokenizeConfig text;
  ShardIdsConfig ids;
  int64_t train_tokenizer = 0;
  int64_t threads = 0;
};

void say_notes(const TokenizeReport& report, Console& console) {
  for (const std::string& note : report.notes) console.err << "note: " << note << '\n';
}

ExitCode write_text(const Options& options, Console& console) {
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

ExitCode write_ids(const Options& options, Console& console) {
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
  const auto options = std::make_shared<Options>();
  CLI::App* const app =
      data.add_subcommand("tokens", "Turn plain text, or token ids, into token shards to train on");
  CLI::Option* const input = app->add_option("-i,--input", options->text.inputs, "Text files, UTF-8");
  CLI::Option* const ids =
      app->add_option(
             "--ids", options->ids.train,
             "Files of token ids in place of text: .npy, llm.c's .bin, or bare numbers (nanoGPT's .bin)")
          ->excludes(input);
  app->add_option("--validation-ids", options->ids.validation,
                  "Files of token ids to validate with; default: the last part of --ids")
      ->needs(ids);
  app->add_option("--ids-type", options->ids.type,
                  "Of bare numbers: uint16, int32, uint32, ...; auto: uint16 for a vocabulary of up to 65536")
      ->needs(ids)
      ->capture_default_str();
  app->add_option("--vocabulary", options->ids.vocabulary, "Ids are below this; default: --tokenizer's")
      ->needs(ids)
      ->check(between_numbers(1));
  app->add_option("-o,--out", options->text.out, "Directory to write, new or empty")->required();
  app->add_flag(
      "--force", options->text.force,
      "Write into a directory that holds files: earlier token shards are replaced, all others stay");
  app->add_option("--threads", options->threads, "Default: all cores")
      ->check(between_numbers(1, kMostThreads));
  CLI::Option* const given =
      app->add_option("--tokenizer", options->text.tokenizer,
                      "A tokenizer.json, a folder with one; `bytes`: one token a byte; or `characters`: "
                      "one token a character that the text has");
  given->capture_default_str();
  app->add_option("--train-tokenizer", options->train_tokenizer,
                  "Train a tokenizer with so many tokens first: one for each byte, and more")
      ->check(between_numbers(257, 1 << 24))
      ->excludes(given)
      ->excludes(ids);
  app->add_option("--validation", options->text.validation_fraction, "Part of each text that is kept apart")
      ->check(between_numbers(0, 0.9))
      ->capture_default_str();
  app->add_option("--shard-tokens", options->text.shard_tokens, "Tokens in a file")
      ->check(between_numbers(1))
      ->capture_default_str();
  app->add_flag("--as-bytes", options->text.as_bytes,
                "Take inputs as they are, whether they are UTF-8 text or not, byte-order marks included")
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
