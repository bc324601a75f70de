#include "launcher/cli/checks.h"
#include "launcher/cli/data_commands.h"
#include "launcher/cli/status_line.h"

#include <tutti/core/data/bpe_train.h>
#include <tutti/core/error.h>
#include "core/data/prepare/text_file.h"
#include "core/io/target.h"

#include <CLI/CLI.hpp>

#include <memory>
#include <optional>

namespace tutti {
namespace {

struct DataTokenizerArguments {
  std::vector<std::string> inputs;
  std::string out;
  int64_t vocabulary = 4096;
  int64_t threads = 0;
  bool as_bytes = false;
  bool force = false;
};

ExitCode train_tokenizer(const DataTokenizerArguments& options, Console& console) {
  FileTarget target(options.out, {.force = options.force,
                                  .inputs = {options.inputs.begin(), options.inputs.end()},
                                  .standard_output = true});
  ThreadPool pool(threads_or_all(options.threads));
  std::vector<TextFile> files;
  std::vector<std::string_view> texts;
  for (const std::string& input : options.inputs) {
    files.push_back(open_text_file(input, options.as_bytes ? TextInput::kBytes : TextInput::kUtf8, pool));
    texts.push_back(files.back().text);
  }
  BpeTrainReport report;
  BpeTrainOptions training{.vocabulary = options.vocabulary, .report = &report};
  const auto begin = std::chrono::steady_clock::now();
  std::optional<Tokenizer> tokenizer;
  {
    StatusLine status_line(console.err);
    training.progress = [&](int64_t done, int64_t total) {
      status_line.show(fmt::format("{} of {} tokens", done, total));
    };
    tokenizer = train_bpe(texts, training, pool);
  }
  OutputFile file = target.open();
  file.write(tokenizer->to_json());
  file.finish();
  if (target.commit()) console.err << overwritten_note(options.out) << '\n';
  for (const std::string& note : report.notes()) console.err << "note: " << note << '\n';
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  std::ostream& said = target.is_standard_output() ? console.err : console.out;
  said << fmt::format("{}: {} tokens, learned in {:.1f} s\n", options.out, tokenizer->vocabulary(), seconds);
  return ExitCode::kDone;
}

}  // namespace

DataCommand add_data_tokenizer(CLI::App& data) {
  const auto options = std::make_shared<DataTokenizerArguments>();
  CLI::App* const app = data.add_subcommand("tokenizer", "Train a tokenizer and write its tokenizer.json");
  app->add_option("-i,--input", options->inputs, "Text files, UTF-8")->required();
  app->add_option("-o,--out", options->out, "The tokenizer.json to write; - for standard output")->required();
  app->add_flag("--force", options->force, "Replace an existing file");
  app->add_option("--threads", options->threads, "Default: all cores")
      ->check(between_numbers(1, kMostThreads));
  app->add_option("--vocabulary", options->vocabulary, "Vocabulary size")
      ->check(between_numbers(1))
      ->capture_default_str();
  app->add_flag("--as-bytes", options->as_bytes, "Read inputs unchanged, even if they are not valid UTF-8");
  return {app, [options](Console& console) { return train_tokenizer(*options, console); }};
}

}  // namespace tutti
