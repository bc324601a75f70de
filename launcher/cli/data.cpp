#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/info/text.h"

#include <tutti/core/config/run_file.h>
#include <tutti/core/data/bpe_train.h>
#include <tutti/core/data/token_writer.h>
#include <tutti/core/error.h>
#include <tutti/core/file/target.h>

#include <unistd.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <filesystem>
#include <memory>
#include <ostream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct Options {
  TokenizeConfig tokens;
  int64_t train_tokenizer = 0;
  int64_t threads = 0;
  std::string directory;
  int64_t show_tokens = 60;
};

ThreadPool make_pool(const Options& options) {
  return ThreadPool(options.threads > 0 ? static_cast<int>(options.threads) : usable_cores());
}

std::string megabytes(double bytes) {
  return fmt::format("{:.1f} MB", bytes / 1e6);
}

/// A line that changes while something goes on, on a terminal only.
class Ticker {
 public:
  explicit Ticker(std::ostream& err) : err_(err), on_(isatty(STDERR_FILENO) == 1) {}
  ~Ticker() {
    if (shown_) err_ << "\r\x1b[2K" << std::flush;
  }
  Ticker(const Ticker&) = delete;
  Ticker& operator=(const Ticker&) = delete;
  void show(const std::string& text) {
    const auto now = std::chrono::steady_clock::now();
    if (!on_ || (shown_ && now - last_ < std::chrono::milliseconds(100))) return;
    err_ << "\r\x1b[2K" << text << std::flush;
    shown_ = true;
    last_ = now;
  }

 private:
  std::ostream& err_;
  bool on_ = false;
  bool shown_ = false;
  std::chrono::steady_clock::time_point last_;
};

ExitCode write_tokens(const Options& options, Console& console) {
  TokenizeConfig config = options.tokens;
  if (options.train_tokenizer > 0) {
    config.tokenizer = "train";
    config.vocabulary = options.train_tokenizer;
  }
  ThreadPool pool = make_pool(options);
  TokenizeReport report;
  {
    Ticker ticker(console.err);
    report = tokenize_files(config, pool, [&](const TokenizeReport& now) {
      ticker.show(fmt::format("{} of {}", megabytes(static_cast<double>(now.bytes)),
                              megabytes(static_cast<double>(now.total_bytes))));
    });
  }
  const auto bytes = static_cast<double>(report.bytes);
  console.out << fmt::format(
      "{}: {} of text in {:.1f} s, vocabulary {}, {} tokens to train on, {} to validate with\n", config.out,
      megabytes(bytes), report.wall_s, report.vocabulary, report.train_tokens, report.validation_tokens);
  return ExitCode::kDone;
}

ExitCode train_tokenizer(const Options& options, Console& console) {
  FileTarget target(options.tokens.out,
                    {.force = options.tokens.force,
                     .inputs = {options.tokens.inputs.begin(), options.tokens.inputs.end()},
                     .standard_output = true});
  std::vector<std::shared_ptr<const MappedFile>> files;
  std::vector<std::string_view> texts;
  for (const std::string& input : options.tokens.inputs) {
    files.push_back(MappedFile::open(input));
    const std::span<const std::byte> bytes = files.back()->bytes();
    require(!bytes.empty(), "{}: is empty; there is nothing to learn a tokenizer from", input);
    texts.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  ThreadPool pool = make_pool(options);
  BpeTrainOptions training{.vocabulary = options.tokens.vocabulary};
  const auto begin = std::chrono::steady_clock::now();
  std::optional<Tokenizer> tokenizer;
  {
    Ticker ticker(console.err);
    training.progress = [&](int64_t done, int64_t total) {
      ticker.show(fmt::format("{} of {} tokens", done, total));
    };
    tokenizer = train_bpe(texts, training, pool);
  }
  OutputFile file = target.open();
  file.write(tokenizer->to_json());
  file.finish();
  if (target.commit()) console.err << overwritten_note(options.tokens.out) << '\n';
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::ostream& said = target.is_standard_output() ? console.err : console.out;
  said << fmt::format("{}: {} tokens, learned in {:.1f} s\n", options.tokens.out, tokenizer->vocabulary(),
                      seconds);
  return ExitCode::kDone;
}

ExitCode show(const Options& options, Console& console) {
  const fs::path directory(options.directory);
  const fs::path index_file = directory / kTokenIndex;
  const TokenIndex index =
      TokenIndex::parse(read_text_file(index_file, kMaxTokenIndexBytes), index_file.string());
  const Tokenizer tokenizer = Tokenizer::load(directory / "tokenizer.json");
  console.out << fmt::format("{}: vocabulary {}\n", options.directory, index.source.vocabulary);
  for (const TokenIndex::Split& split : index.splits) {
    const TokenCorpus corpus = TokenCorpus::open(directory, split.name);
    std::vector<int32_t> ids(static_cast<size_t>(std::min(options.show_tokens, corpus.size())));
    corpus.read(0, ids);
    console.out << fmt::format("\n{}: {} tokens in {} shards, beginning with\n{}\n", split.name,
                               corpus.size(), corpus.shards().size(), tokenizer.decode(ids));
  }
  return ExitCode::kDone;
}

void add_inputs(CLI::App& app, Options& options, const char* out_help, const char* force_help) {
  app.add_option("-i,--input", options.tokens.inputs, "Plain text files")->required();
  app.add_option("-o,--out", options.tokens.out, out_help)->required();
  app.add_flag("--force", options.tokens.force, force_help);
  app.add_option("--threads", options.threads, "Default: all cores")->check(between_numbers(1));
}

CommandAction setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.require_subcommand(1);

  CLI::App* const tokens = app.add_subcommand("tokens", "Turn plain text into token shards to train on");
  add_inputs(*tokens, *options, "Directory to write, new or empty",
             "Write into a directory that holds files: earlier token shards are replaced, all others stay");
  CLI::Option* const given =
      tokens->add_option("--tokenizer", options->tokens.tokenizer,
                         "A tokenizer.json, a folder with one, or `bytes`: one token a byte");
  given->capture_default_str();
  tokens
      ->add_option("--train-tokenizer", options->train_tokenizer,
                   "Train a tokenizer with so many tokens first")
      ->check(between_numbers(1))
      ->excludes(given);
  tokens
      ->add_option("--validation", options->tokens.validation_fraction,
                   "Part of each text that is kept apart")
      ->check(between_numbers(0, 0.9))
      ->capture_default_str();
  tokens->add_option("--shard-tokens", options->tokens.shard_tokens, "Tokens in a file")
      ->check(between_numbers(1))
      ->capture_default_str();

  CLI::App* const tokenizer = app.add_subcommand("tokenizer", "Train a tokenizer alone, a tokenizer.json");
  add_inputs(*tokenizer, *options, "The tokenizer.json to write; - for standard output",
             "Replace a file that exists");
  tokenizer->add_option("--vocabulary", options->tokens.vocabulary, "Tokens in all")
      ->check(between_numbers(1))
      ->capture_default_str();

  CLI::App* const shown = app.add_subcommand("show", "Show what a directory of token shards holds");
  shown->add_option("DIR", options->directory, "The directory")->required();
  shown->add_option("-n,--tokens", options->show_tokens, "Tokens of each split to print")
      ->check(between_numbers(0))
      ->capture_default_str();

  return [options, tokens, tokenizer](Console& console) {
    if (tokens->parsed()) return write_tokens(*options, console);
    if (tokenizer->parsed()) return train_tokenizer(*options, console);
    return show(*options, console);
  };
}

}  // namespace

const Command kDataCommand{"data", "Prepare text for training",
                           R"(  tutti data tokens --input book.txt --train-tokenizer 2048 --out data/book
  tutti data tokens --input a.txt b.txt --tokenizer gpt2/tokenizer.json --validation 0.01 --out data/ab
  tutti data tokenizer --input book.txt --vocabulary 8192 --out tokenizer.json
  tutti data show data/book)",
                           &setup};

}  // namespace tutti
