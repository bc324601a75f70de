#include <tutti/core/data/tokenizer.h>
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

struct GenerateArguments {
  std::string directory;
  std::string prompt;
  std::string tokenizer;
  bool ids = false;
  int64_t step = 0;
  int64_t threads = 0;
  SamplingConfig sampling;
};

/// The tokenizer of a run: its own copy, else the one beside the data; none for ids of an unknown tokenizer.
std::optional<Tokenizer> run_tokenizer(const GenerateArguments& options, const DataConfig& data) {
  const fs::path directory(options.directory);
  require(data.kind == "tokens", "{}: was trained on data.kind {}; expected tokens to generate text",
          options.directory, data.kind);
  if (options.ids) return std::nullopt;
  if (!options.tokenizer.empty()) return Tokenizer::load(options.tokenizer);
  std::error_code none;
  if (fs::exists(directory / "tokenizer.json", none)) return Tokenizer::load(directory / "tokenizer.json");
  return open_tokenizer(data);
}

/// A model, what it reads and writes, and what it goes on from.
struct Writer {
  RunModel run;
  std::optional<Tokenizer> tokenizer;  ///< none: token ids in and out
  std::vector<int32_t> ids;            ///< of the prompt's text
  std::vector<int32_t> prompt;         ///< what the model begins with
  std::set<int32_t> ends;              ///< tokens at which the text ends
};

/// Of a prompt in ids.
std::vector<int32_t> parse_ids(const std::string& prompt) {
  std::vector<int32_t> ids;
  std::istringstream words(prompt);
  for (std::string word; words >> word;) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    require(error == std::errc{} && end == word.data() + word.size() && id >= 0,
            "--prompt: '{}' is not a token id; for text, set --tokenizer", word);
    ids.push_back(id);
  }
  return ids;
}

/// Ids of a text behind those that the tokenizer puts in front of every text.
std::vector<int32_t> behind_mark(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::vector<int32_t> all(tokenizer.before().begin(), tokenizer.before().end());
  all.insert(all.end(), ids.begin(), ids.end());
  return all;
}

Writer open_run(const GenerateArguments& options, const Stream& stream, Console& console) {
  RunModel run = open_run_model(options.directory, options.step, stream, console.err);
  require(run.settings.model.kind == "gpt", "{}: model.kind is {}; expected gpt", options.directory,
          run.settings.model.kind);
  std::optional<Tokenizer> tokenizer = run_tokenizer(options, run.settings.data);
  if (!tokenizer) {
    std::vector<int32_t> ids = parse_ids(options.prompt);
    return {std::move(run), std::nullopt, ids, ids, {}};
  }
  std::vector<int32_t> ids = tokenizer->encode(options.prompt, AddedTokens::kAsText);
  std::vector<int32_t> prompt = behind_mark(*tokenizer, ids);
  std::set<int32_t> ends;
  if (const std::optional<int32_t> end = tokenizer->end_of_text()) {
    if (prompt.empty()) prompt.push_back(*end);
    ends.insert(*end);
  }
  return {std::move(run), std::move(tokenizer), std::move(ids), std::move(prompt), std::move(ends)};
}

Writer open_folder(const GenerateArguments& options, const Stream& stream) {
  const fs::path folder(options.directory);
  require(options.step == 0,
          "{}: --step selects a checkpoint of a run; this is a Hugging Face model directory",
          options.directory);
  std::optional<Tokenizer> tokenizer;
  if (!options.ids) {
    tokenizer =
        Tokenizer::load(options.tokenizer.empty() ? folder / "tokenizer.json" : fs::path(options.tokenizer));
  }
  std::vector<int32_t> ids =
      tokenizer ? tokenizer->encode(options.prompt, AddedTokens::kRecognise) : parse_ids(options.prompt);
  std::vector<int32_t> prompt = tokenizer ? behind_mark(*tokenizer, ids) : ids;
  RunModel run = open_hugging_face_model(
      folder, static_cast<int64_t>(prompt.size()) + 1 + options.sampling.tokens, stream);
  if (prompt.empty() && run.folder->begin_token)
    prompt.push_back(static_cast<int32_t>(*run.folder->begin_token));
  std::set<int32_t> ends;
  for (const int64_t end : run.folder->end_tokens) ends.insert(static_cast<int32_t>(end));
  return {std::move(run), std::move(tokenizer), std::move(ids), std::move(prompt), std::move(ends)};
}

void write_text(const GenerateArguments& options, const Writer& writer, Gpt& model, const Stream& stream,
                std::ostream& out) {
  const Tokenizer& tokenizer = *writer.tokenizer;
  out << options.prompt << std::flush;
  TokenDecoder text(tokenizer);  // goes on from the prompt: what a token means may depend on those before it
  for (const int32_t id : writer.ids) (void)text.add(id);
  (void)generate(model, writer.prompt, options.sampling, stream, [&](int32_t token) {
    if (writer.ends.contains(token)) return false;
    // A model may have more outputs than the tokenizer has tokens, to round its matrices.
    if (token < tokenizer.vocabulary()) out << text.add(token) << std::flush;
    return out.good();
  });
  out << text.finish() << '\n';
}

void write_ids(const GenerateArguments& options, const Writer& writer, Gpt& model, const Stream& stream,
               std::ostream& out) {
  out << fmt::format("{}", fmt::join(writer.prompt, " ")) << std::flush;
  (void)generate(model, writer.prompt, options.sampling, stream, [&](int32_t token) {
    if (writer.ends.contains(token)) return false;
    out << ' ' << token << std::flush;
    return out.good();
  });
  out << '\n';
}

ExitCode generate_from(const GenerateArguments& options, Console& console) {
  ThreadPool pool(options.threads > 0 ? static_cast<int>(options.threads) : usable_cores());
  const Stream stream = Stream::inline_on(pool);
  const bool is_folder = is_hugging_face_folder(options.directory);
  const Writer writer = is_folder ? open_folder(options, stream) : open_run(options, stream, console);
  auto& model = dynamic_cast<Gpt&>(writer.run.task->model());
  const int64_t vocabulary = model.config().vocabulary;
  console.err << fmt::format("{}{}{}\n", options.directory,
                             is_folder ? "" : fmt::format(", step {}", writer.run.step),
                             writer.tokenizer ? "" : ": token ids in and out")
              << std::flush;
  if (writer.tokenizer) {
    require(writer.tokenizer->vocabulary() <= vocabulary,
            "{}: the tokenizer has {} tokens, the model only {}", options.directory,
            writer.tokenizer->vocabulary(), vocabulary);
    require(!writer.prompt.empty(), "--prompt: {} has no {} to begin with; give a text", options.directory,
            is_folder ? "bos_token_id" : kEndOfText);
    write_text(options, writer, model, stream, console.out);
  } else {
    require(!writer.prompt.empty(), "--prompt: expected token ids, such as \"{}\"; for text, set --tokenizer",
            vocabulary - 1);
    for (const int32_t id : writer.prompt) {
      require(id < vocabulary,
              "--prompt: the model has no token {}; expected 0 to {}; for text, set --tokenizer", id,
              vocabulary - 1);
    }
    write_ids(options, writer, model, stream, console.out);
  }
  return ExitCode::kDone;
}

CommandAction setup_generate(CLI::App& app) {
  const auto options = std::make_shared<GenerateArguments>();
  app.add_option("RUNDIR", options->directory,
                 "Run directory of a gpt model, or Hugging Face model directory")
      ->required();
  app.add_option("-p,--prompt", options->prompt, "Text to continue; default: the beginning of a document");
  app.add_option("--tokenizer", options->tokenizer, "The model's tokenizer.json; default: the run's own");
  app.add_flag("--ids", options->ids,
               "Read --prompt as token ids and print ids; the default without a tokenizer");
  app.add_option("-n,--tokens", options->sampling.tokens, "Maximum number of new tokens")
      ->check(between_numbers(1))
      ->capture_default_str();
  app.add_option("-t,--temperature", options->sampling.temperature,
                 "Sampling temperature; 0: always the most probable token")
      ->check(between_numbers(0))
      ->capture_default_str();
  app.add_option("--top-k", options->sampling.top_k, "Sample from the K most probable tokens; 0: from all")
      ->check(between_numbers(0))
      ->capture_default_str();
  app.add_option("--top-p", options->sampling.top_p,
                 "Sample from the smallest set of tokens with this total probability")
      ->check(between_numbers(0, 1.0))
      ->capture_default_str();
  app.add_option("--seed", options->sampling.seed, "The same seed gives the same text")
      ->check(between_numbers(0))
      ->capture_default_str();
  app.add_option("--step", options->step, "Use the checkpoint of this step; default: the newest")
      ->check(between_numbers(1));
  app.add_option("--threads", options->threads, "Default: all cores")
      ->check(between_numbers(1, kMostThreads));
  return [options](Console& console) { return generate_from(*options, console); };
}

}  // namespace

const Command kGenerateCommand{"generate", "Generate text with a trained language model",
                               R"(  tutti generate runs/kjv --prompt "In the beginning"
  tutti generate runs/kjv --prompt "And God said" --tokens 50 --temperature 0.7 --top-k 40 --seed 3
  tutti generate SmolLM-135M --prompt "Gravity is" -t 0    # config.json, tokenizer.json, *.safetensors)",
                               &setup_generate};

}  // namespace tutti
