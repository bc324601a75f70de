#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/run/run_settings.h"

#include <tutti/core/checkpoint/model_files.h>
#include <tutti/core/config/run_file.h>
#include <tutti/core/data/tokenizer.h>
#include <tutti/core/error.h>
#include <tutti/models/builder.h>
#include <tutti/models/external_names.h>
#include <tutti/models/hugging_face/config.h>
#include "core/config/value_text.h"
#include "core/io/target.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kUsualContext = 2048;

struct ImportArguments {
  std::string folder;
  std::string out;
  int64_t context = 0;
  bool force = false;
};

/// The context to train with: the requested or the default one; never longer than the model's.
int64_t context_of(const ImportArguments& options, const HuggingFaceConfig& config) {
  const int64_t longest = config.gpt.context;
  if (options.context == 0) return std::min(longest, kUsualContext);
  require(options.context <= longest, "--context: {} is more than {} has, {}", options.context, config.name,
          longest);
  return options.context;
}

std::string quoted(std::string text) {
  return yaml_text(FieldTarget(&text), "path");
}

/// Throws Error if the folder's tokenizer has tokens that the model has not. One that is not supported is a
/// matter of the commands that use it.
void require_known_tokens(const fs::path& file, int64_t vocabulary) {
  std::optional<Tokenizer> tokenizer;
  try {
    tokenizer = Tokenizer::load(file);
  } catch (const Error&) {
    return;
  }
  require(tokenizer->vocabulary() <= vocabulary,
          "{}: has {} tokens, but vocab_size in config.json is {}: it is the tokenizer of another model",
          file.string(), tokenizer->vocabulary(), vocabulary);
}

std::string run_file(const ImportArguments& options) {
  const auto config = hugging_face_config_of(options.folder);
  require(config.has_value() && fs::is_directory(options.folder),
          "{}: expected a directory with a config.json", options.folder);
  const ModelFiles weights = ModelFiles::open(options.folder);
  const fs::path folder = fs::canonical(options.folder);  // the run file may be anywhere
  GptConfig gpt = config->gpt;
  const int64_t context = context_of(options, *config);
  if (gpt.positions != "learned") gpt.context = context;
  const bool tokenizer = fs::exists(folder / "tokenizer.json");
  std::string text = fmt::format("# {} of {}, for `tutti train`. The model's own context is {} tokens.\n",
                                 config->model_type, quoted(folder.string()), config->gpt.context);
  text += "data:\n  kind: tokens\n";
  if (tokenizer) {
    text += fmt::format("  # Made by: tutti data tokens --input TEXT.. --tokenizer {} --out data\n",
                        quoted((folder / "tokenizer.json").string()));
  }
  text += fmt::format("  path: data\n  context: {}\nmodel:\n  kind: gpt\n  weights: {}\n{}", context,
                      quoted(folder.string()), gpt_section(gpt));
  // Read the text back, as a run will: it must give the same settings, and the weights must match.
  RunSettings back;
  read_text(text, "the written run file", back);
  require(back.model.weights == folder.string(), "{}: a run file cannot contain this path", folder.string());
  require_same_model(back.model.gpt, *config);
  require_weights_fit(make_task(back.model)->model(), weights);
  if (tokenizer) require_known_tokens(folder / "tokenizer.json", gpt.vocabulary);
  return text;
}

ExitCode import_folder(const ImportArguments& options, Console& console) {
  FileTarget target(options.out,
                    {.force = options.force, .inputs = {options.folder}, .standard_output = true});
  const std::string text = run_file(options);
  if (target.is_standard_output()) {
    console.out << text;
    return ExitCode::kDone;
  }
  OutputFile file = target.open();
  file.write(text);
  file.finish();
  if (target.commit()) console.err << overwritten_note(options.out) << '\n';
  console.out << options.out << '\n';
  return ExitCode::kDone;
}

CommandAction setup_import(CLI::App& app) {
  const auto options = std::make_shared<ImportArguments>();
  app.add_option("FOLDER", options->folder,
                 "Hugging Face model directory: config.json, *.safetensors, tokenizer.json")
      ->required();
  app.add_option("-o,--out", options->out, "The run file to write; - for standard output")->required();
  app.add_flag("--force", options->force, "Replace an existing file");
  app.add_option("--context", options->context, "Tokens of a sequence; default: the model's, at most 2048")
      ->check(between_numbers(1));
  return [options](Console& console) { return import_folder(*options, console); };
}

}  // namespace

const Command kImportCommand{
    "import", "Write a run file that continues from a Hugging Face model",
    R"(  tutti import SmolLM-135M --out run.yaml    # config.json becomes the model section
  tutti import Llama-3.2-1B --context 4096 --out -)",
    &setup_import};

}  // namespace tutti
