#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/run/run_settings.h"

#include <tutti/core/checkpoint/checkpoint.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/error.h>
#include <tutti/models/generate.h>

#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>
#include <ostream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string directory;
  std::string prompt;
  int64_t step = 0;
  int64_t threads = 0;
  SamplingConfig sampling;
};

/// The tokenizer of a run: its own copy, else the one beside the data.
Tokenizer run_tokenizer(const fs::path& directory, const DataConfig& data) {
  std::error_code none;
  if (fs::exists(directory / "tokenizer.json", none)) return Tokenizer::load(directory / "tokenizer.json");
  std::optional<Tokenizer> found = open_tokenizer(data);
  if (!found) {
    fail("{}: was trained on data.kind {}, not on tokens; there is no text to generate", directory.string(),
         data.kind);
  }
  return *std::move(found);
}

/// Loads the weights of the wanted step, or of the newest checkpoint that verifies. Returns its step.
int64_t load_weights(const fs::path& checkpoints, int64_t step, Module& model, Console& console) {
  std::vector<StateTensor> tensors;
  for (const Parameter* p : model.parameters()) tensors.push_back(StateTensor::whole(p->name, p->value));
  std::string problems;
  for (const CheckpointPlace& place : list_checkpoints(checkpoints)) {
    if (step > 0 && place.step != step) continue;
    try {
      const Manifest manifest = read_manifest(place.path);
      verify_files(place.path, manifest);
      load_group(place.path, manifest, "model", tensors);
      return place.step;
    } catch (const Error& error) {
      console.err << "tutti: " << error.what() << '\n';
      problems = ", or none that is whole";
    }
  }
  fail("{}: there is no checkpoint{}{}", checkpoints.string(),
       step > 0 ? fmt::format(" of step {}", step) : "", problems);
}

ExitCode generate_text(const Options& options, Console& console) {
  const fs::path directory(options.directory);
  RunSettings settings;
  read_run_file(directory / "run.yaml", settings);
  require(settings.model.kind == "gpt", "{}: model.kind is {}; text comes from gpt models", options.directory,
          settings.model.kind);
  const Tokenizer tokenizer = run_tokenizer(directory, settings.data);
  require(tokenizer.vocabulary() <= settings.model.gpt.vocabulary,
          "{}: the tokenizer has {} tokens, the model knows {}", options.directory, tokenizer.vocabulary(),
          settings.model.gpt.vocabulary);

  ThreadPool pool(options.threads > 0 ? static_cast<int>(options.threads) : usable_cores());
  const Stream stream = Stream::inline_on(pool);
  Gpt model(settings.model.gpt);
  const auto groups = make_param_groups(model, {.seed = 0}, stream);
  const fs::path checkpoints =
      settings.checkpoint.dir.empty() ? directory / "checkpoints" : fs::path(settings.checkpoint.dir);
  const int64_t step = load_weights(checkpoints, options.step, model, console);
  console.err << fmt::format("{}, step {}\n", options.directory, step) << std::flush;

  std::vector<int32_t> prompt = tokenizer.encode(options.prompt, AddedTokens::kAsText);
  const std::optional<int32_t> end = tokenizer.added(kEndOfText);
  if (prompt.empty()) {
    if (!end) fail("--prompt: this tokenizer has no {} to begin with; give some text", kEndOfText);
    prompt.push_back(*end);
  }
  console.out << options.prompt << std::flush;
  (void)generate(model, prompt, options.sampling, stream, [&](int32_t token) {
    if (end && token == *end) return false;
    // A model may have more outputs than the tokenizer has tokens, to round its matrices.
    if (token < tokenizer.vocabulary()) console.out << tokenizer.decode({&token, 1}) << std::flush;
    return console.out.good();
  });
  console.out << '\n';
  return ExitCode::kDone;
}

CommandAction setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("RUNDIR", options->directory, "Directory of a run that trained a gpt model")->required();
  app.add_option("-p,--prompt", options->prompt, "Text to go on from; default: the beginning of a document");
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
  app.add_option("--threads", options->threads, "Default: all cores")->check(between_numbers(1));
  return [options](Console& console) { return generate_text(*options, console); };
}

}  // namespace

const Command kGenerateCommand{"generate", "Let a trained language model write",
                               R"(  tutti generate runs/kjv --prompt "In the beginning"
  tutti generate runs/kjv --prompt "And God said" --tokens 50 --temperature 0.7 --top-k 40 --seed 3)",
                               &setup};

}  // namespace tutti
