#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/run/run_model.h"

#include <tutti/core/error.h>
#include <tutti/models/generate.h>

#include <CLI/CLI.hpp>

#include <charconv>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <sstream>
#include <string>
#include <utility>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string directory;
  std::string prompt;
  std::string tokenizer;
  bool ids = false;
  int64_t step = 0;
  int64_t threads = 0;
  SamplingConfig sampling;
};

/// The tokenizer of a run: its own copy, else the one beside the data; none for ids of an unknown tokenizer.
std::optional<Tokenizer> run_tokenizer(const Options& options, const DataConfig& data) {
  const fs::path directory(options.directory);
  require(data.kind == "tokens",
          "{}: was trained on data.kind {}, not on tokens; there is no text to generate", options.directory,
          data.kind);
  if (options.ids) return std::nullopt;
  if (!options.tokenizer.empty()) return Tokenizer::load(options.tokenizer);
  std::error_code none;
  if (fs::exists(directory / "tokenizer.json", none)) return Tokenizer::load(directory / "tokenizer.json");
  return open_tokenizer(data);
}

/// Generates with ids in place of text, in and out.
ExitCode generate_ids(const Options& options, Gpt& model, const Stream& stream, Console& console) {
  std::vector<int32_t> prompt;
  std::istringstream words(options.prompt);
  for (std::string word; words >> word;) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    require(
        error == std::errc{} && end == word.data() + word.size() && id >= 0 && id < model.config().vocabulary,
        "--prompt: '{}' is no token id from 0 to {}; for text, name a --tokenizer", word,
        model.config().vocabulary - 1);
    prompt.push_back(id);
  }
  require(!prompt.empty(),
          "--prompt: needs token ids to begin with, such as \"50256\"; for text, name a --tokenizer");
  console.out << fmt::format("{}", fmt::join(prompt, " ")) << std::flush;
  (void)generate(model, prompt, options.sampling, stream, [&](int32_t token) {
    console.out << ' ' << token << std::flush;
    return console.out.good();
  });
  console.out << '\n';
  return ExitCode::kDone;
}

/// A model, what it reads and writes, and what it goes on from.
struct Writer {
  RunModel run;
  Tokenizer tokenizer;
  std::vector<int32_t> ids;     ///< of the prompt's text
  std::vector<int32_t> prompt;  ///< what the model begins with
  std::set<int32_t> ends;       ///< tokens at which the text ends
};

/// Ids of a text behind those that the tokenizer puts in front of every text.
std::vector<int32_t> behind_mark(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<int32_t> all(tokenizer.before().begin(), tokenizer.before().end());
  all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

Writer open_run(const Options& options, RunModel run, Tokenizer tokenizer) {
  std::vector<int32_t> ids = tokenizer.encode(options.prompt, AddedTokens::kAsText);
  std::vector<int32_t> prompt = behind_mark(tokenizer, ids);
  const std::optional<int32_t> end = tokenizer.end_of_text();
  if (prompt.empty() && end) prompt.push_back(*end);
  std::set<int32_t> ends;
  if (end) ends.insert(*end);
  return {std::move(run), std::move(tokenizer), std::move(ids), std::move(prompt), std::move(ends)};
}

Writer open_folder(const Options& options, const Stream& stream) {
  const fs::path folder(options.directory);
  require(options.step == 0, "{}: --step chooses a run's checkpoint; this is a folder of transformers",
          options.directory);
  Tokenizer tokenizer =
      Tokenizer::load(options.tokenizer.empty() ? folder / "tokenizer.json" : fs::path(options.tokenizer));
  std::vector<int32_t> ids = tokenizer.encode(options.prompt, AddedTokens::kRecognise);
  std::vector<int32_t> prompt = behind_mark(tokenizer, ids);
  RunModel run = open_hugging_face_model(
      folder, static_cast<int64_t>(prompt.size()) + 1 + options.sampling.tokens, stream);
  if (prompt.empty() && run.folder->begin_token)
    prompt.push_back(static_cast<int32_t>(*run.folder->begin_token));
  std::set<int32_t> ends;
  for (const int64_t end : run.folder->end_tokens) ends.insert(static_cast<int32_t>(end));
  return {std::move(run), std::move(tokenizer), std::move(ids), std::move(prompt), std::move(ends)};
}

ExitCode generate_text(const Options& options, Console& console) {
  ThreadPool pool(options.threads > 0 ? static_cast<int>(options.threads) : usable_cores());
  const Stream stream = Stream::inline_on(pool);
  const bool is_folder = is_hugging_face_folder(options.directory);
  require(!is_folder || !options.ids, "{}: --ids is for runs; this is a folder of transformers",
          options.directory);
  std::optional<Writer> opened;
  if (is_folder) {
    opened = open_folder(options, stream);
  } else {
    RunModel trained = open_run_model(options.directory, options.step, stream, console.err);
    require(trained.settings.model.kind == "gpt", "{}: model.kind is {}; text comes from gpt models",
            options.directory, trained.settings.model.kind);
    std::optional<Tokenizer> found = run_tokenizer(options, trained.settings.data);
    if (!found) {
      console.err << fmt::format("{}, step {}: token ids in and out\n", options.directory, trained.step)
                  << std::flush;
      return generate_ids(options, dynamic_cast<Gpt&>(trained.task->model()), stream, console);
    }
    opened = open_run(options, std::move(trained), *std::move(found));
  }
  const Writer& writer = *opened;
  const auto& [run, tokenizer, ids, prompt, ends] = writer;
  auto& model = dynamic_cast<Gpt&>(run.task->model());
  require(tokenizer.vocabulary() <= model.config().vocabulary,
          "{}: the tokenizer has {} tokens, the model knows {}", options.directory, tokenizer.vocabulary(),
          model.config().vocabulary);
  console.err << options.directory << (is_folder ? "" : fmt::format(", step {}", run.step)) << '\n'
              << std::flush;
  if (prompt.empty()) {
    fail("--prompt: {} has no {} to begin with; give some text", options.directory,
         is_folder ? "bos_token_id" : kEndOfText);
  }
  console.out << options.prompt << std::flush;
  TokenDecoder text(tokenizer);  // goes on from the prompt: what a token means may depend on those before it
  for (const int32_t id : ids) (void)text.add(id);
  (void)generate(model, prompt, options.sampling, stream, [&](int32_t token) {
    if (writer.ends.contains(token)) return false;
    // A model may have more outputs than the tokenizer has tokens, to round its matrices.
    if (token < writer.tokenizer.vocabulary()) console.out << text.add(token) << std::flush;
    return console.out.good();
  });
  console.out << text.finish() << '\n';
  return ExitCode::kDone;
}

CommandAction setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("RUNDIR", options->directory,
                 "Directory of a run that trained a gpt model, or folder of transformers")
      ->required();
  app.add_option("-p,--prompt", options->prompt, "Text to go on from; default: the beginning of a document");
  app.add_option("--tokenizer", options->tokenizer,
                 "The tokenizer.json of the model's tokens; default: the run's own");
  app.add_flag("--ids", options->ids,
               "Take --prompt as token ids and print ids: what is done where no tokenizer is known");
  app.add_option("-n,--tokens", options->sampling.tokens, "At most so many new tokens")
      ->check(between_numbers(1))
      ->capture_default_str();
  app.add_option("-t,--temperature", options->sampling.temperature, "0: always the most probable token")
      ->check(between_numbers(0))
      ->capture_default_str();
  app.add_option("--top-k", options->sampling.top_k, "Draw from the K most probable tokens; 0: from all")
      ->check(between_numbers(0))
      ->capture_default_str();
  app.add_option("--top-p", options->sampling.top_p, "Draw from the fewest tokens that hold this probability")
      ->check(between_numbers(0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", options->sampling.seed, "The same seed gives the same text")
      ->check(between_numbers(0))
      ->capture_default_str();
  app.add_option("--step", options->step, "Use the checkpoint of this step; default: the newest")
      ->check(between_numbers(1));
  app.add_option("--threads", options->threads, "Default: all cores")
      ->check(between_numbers(1, kMostThreads));
  return [options](Console& console) { return generate_text(*options, console); };
}

}  // namespace

const Command kGenerateCommand{"generate", "Let a trained language model write",
                               R"(  tutti generate runs/kjv --prompt "In the beginning"
  tutti generate runs/kjv --prompt "And God said" --tokens 50 --temperature 0.7 --top-k 40 --seed 3
  tutti generate SmolLM-135M --prompt "Gravity is" -t 0    # config.json, tokenizer.json, *.safetensors)",
                               &setup};

}  // namespace tutti
