#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/run/run_model.h"

#include <tutti/core/checkpoint/safetensors.h>
#include <tutti/core/file/target.h>
#include <tutti/models/external_names.h>

#include <CLI/CLI.hpp>

#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace tutti {
namespace {

struct Options {
  std::string directory;
  std::string out;
  bool force = false;
  int64_t step = 0;
};

ExitCode export_weights(const Options& options, Console& console) {
  FileTarget target(options.out,
                    {.force = options.force, .inputs = {options.directory}, .standard_output = true});
  ThreadPool pool(1);
  const Stream stream = Stream::inline_on(pool);
  const RunModel run = open_run_model(options.directory, options.step, stream, console.err);
  if (!run.settings.checkpoint.dir.empty()) target.add_input(run.settings.checkpoint.dir);
  std::vector<std::pair<std::string, Tensor>> tensors;
  int64_t elements = 0;
  for (const NamedTensor& named : export_tensors(run.task->model(), run.groups, stream)) {
    tensors.emplace_back(named.name, named.tensor.to(run.dtype, stream));
    elements += named.tensor.numel();
  }
  // transformers refuses files that do not say so.
  write_safetensors(target.open(), tensors, {{"format", "pt"}});
  if (target.commit()) console.err << overwritten_note(options.out) << '\n';
  std::ostream& said = target.is_standard_output() ? console.err : console.out;
  said << fmt::format("{}: {} tensors of {}, {} elements, {}, of step {}\n", options.out, tensors.size(),
                      options.directory, elements, name(run.dtype), run.step);
  return ExitCode::kDone;
}

CommandAction setup(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.add_option("RUNDIR", options->directory, "Directory of a run that trained a gpt or resnet model")
      ->required();
  app.add_option("-o,--out", options->out, "The safetensors file to write; - for standard output")
      ->required();
  app.add_flag("--force", options->force, "Replace a file that exists");
  app.add_option("--step", options->step, "Use the checkpoint of this step; default: the newest")
      ->check(between_numbers(1));
  return [options](Console& console) { return export_weights(*options, console); };
}

}  // namespace

const Command kExportCommand{"export",
                             "Write a run's weights as a safetensors file with Hugging Face's names",
                             R"(  tutti export runs/kjv --out kjv.safetensors
  mpirun -n 2 tutti train run.yaml --set model.weights=kjv.safetensors    # and the way in again)",
                             &setup};

}  // namespace tutti
