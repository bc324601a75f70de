#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/run/exported.h"
#include "launcher/run/run_model.h"

#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/error.h>
#include "core/io/target.h"

#include <CLI/CLI.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct ExportArguments {
  std::string directory;
  std::string out;
  std::string dtype;
  int64_t shard_mib = 5120;
  bool force = false;
  int64_t step = 0;
};

struct Opened {
  RunModel run;
  DType dtype;
};

/// The run, with its masters where fp32 (or fp16, which is rounded once) is asked for.
Opened open(const ExportArguments& options, const Stream& stream, std::ostream& err) {
  const bool asked = !options.dtype.empty();
  const DType dtype = asked ? dtype_from_name(options.dtype) : DType::kBFloat16;
  RunModel run = open_run_model(options.directory, options.step, stream, err,
                                dtype == DType::kBFloat16 ? Weights::kComputed : Weights::kMasters);
  const DType written = asked ? dtype : run.dtype;
  return {std::move(run), written};
}

/// The run's own copy, else the one beside its data, where that is still there.
std::optional<TokenizerFolder> tokenizer_of(const fs::path& directory, const DataConfig& data) {
  std::error_code none;
  if (fs::exists(directory / "tokenizer.json", none))
    return TokenizerFolder{Tokenizer::load(directory / "tokenizer.json"), directory};
  if (data.kind != "tokens" || !fs::exists(fs::path(data.path) / "tokenizer.json", none)) return std::nullopt;
  std::optional<Tokenizer> found = open_tokenizer(data);
  if (!found) return std::nullopt;
  return TokenizerFolder{*std::move(found), data.path};
}

ExitCode export_to_file(const ExportArguments& options, const Stream& stream, Console& console) {
  FileTarget target(options.out,
                    {.force = options.force, .inputs = {options.directory}, .standard_output = true});
  const Opened opened = open(options, stream, console.err);
  if (const std::string& dir = opened.run.settings.checkpoint.dir; !dir.empty()) target.add_input(dir);
  const auto tensors = tensors_to_export(opened.run, opened.dtype, stream);
  write_safetensors(target.open(), tensors, {{"format", "pt"}});
  if (target.commit()) console.err << overwritten_note(options.out) << '\n';
  std::ostream& said = target.is_standard_output() ? console.err : console.out;
  said << fmt::format("{}: {} tensors of {}, {}, of step {}\n", options.out, tensors.size(),
                      options.directory, name(opened.dtype), opened.run.step);
  return ExitCode::kDone;
}

ExitCode export_to_folder(const ExportArguments& options, const Stream& stream, Console& console) {
  DirectoryTarget target(options.out, {.force = options.force,
                                       .inputs = {options.directory},
                                       .names = {},
                                       .index = "config.json",
                                       .earlier = &exported_names});
  const Opened opened = open(options, stream, console.err);
  const std::optional<TokenizerFolder> tokenizer = tokenizer_of(options.directory, opened.run.settings.data);
  export_folder(target, opened.run, tokenizer,
                {.dtype = opened.dtype, .shard_bytes = options.shard_mib << 20}, stream);
  target.commit();
  console.out << fmt::format("{}: {}, {}, of step {}{}\n", options.out, options.directory, name(opened.dtype),
                             opened.run.step, tokenizer ? "" : ", without a tokenizer: the run has none");
  return ExitCode::kDone;
}

/// Whether `out` names a file: by its ending, or because there is something that is no directory.
bool is_file_name(const fs::path& out) {
  if (out.filename() == "-" || out.extension() == ".safetensors") return true;
  std::error_code none;
  return fs::exists(fs::symlink_status(out, none)) && !fs::is_directory(out, none);
}

CommandAction setup_export(CLI::App& app) {
  const auto options = std::make_shared<ExportArguments>();
  app.add_option("RUNDIR", options->directory, "Run directory of a gpt or resnet model")->required();
  app.add_option("-o,--out", options->out,
                 "The model directory to write for transformers; or FILE.safetensors for the weights only, - "
                 "for the weights on standard output")
      ->required();
  app.add_option(
         "--dtype", options->dtype,
         "fp32 (master weights of a bf16 run), bf16 or fp16; default: the dtype of the run's forward pass")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}));
  app.add_option("--shard-mib", options->shard_mib, "Maximum size of each weight file")
      ->check(between_numbers(1, 1 << 20))
      ->capture_default_str();
  app.add_flag("--force", options->force, "Replace existing files");
  app.add_option("--step", options->step, "Use the checkpoint of this step; default: the newest")
      ->check(between_numbers(1));
  return [options](Console& console) {
    ThreadPool pool(1);
    const Stream stream = Stream::inline_on(pool);
    return is_file_name(options->out) ? export_to_file(*options, stream, console)
                                      : export_to_folder(*options, stream, console);
  };
}

}  // namespace

const Command kExportCommand{
    "export", "Export a run's model for transformers, or its weights as a safetensors file",
    R"(  tutti export runs/kjv --out kjv                      # AutoModelForCausalLM.from_pretrained("kjv")
  tutti export runs/kjv --out kjv --dtype fp32 --force
  tutti export runs/resnet --out resnet.safetensors    # torchvision's names
  mpirun -n 2 tutti train run.yaml --set model.weights=kjv    # and the way in again)",
    &setup_export};

}  // namespace tutti
