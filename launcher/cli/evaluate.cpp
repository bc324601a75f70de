#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/info/libraries.h"
#include "launcher/launch/bootstrap_check.h"
#include "launcher/run/evaluation.h"

#include <tutti/comm/factory.h>

#include <CLI/CLI.hpp>

#include <cmath>
#include <memory>
#include <ostream>
#include <string>

namespace tutti {
namespace {

/// JSON has no numbers that are not finite.
std::string json_number(double number) {
  return std::isfinite(number) ? fmt::format("{}", number) : "null";
}

void print(const Evaluation& e, bool json, std::ostream& out) {
  const bool tokens = e.item == "tokens";
  if (json) {
    out << '{';
    if (e.step) out << fmt::format("\"step\": {}, ", *e.step);
    out << fmt::format("\"loss\": {}, \"accuracy\": {}, \"{}\": {}", json_number(e.loss),
                       json_number(e.accuracy), e.item, e.count);
    if (tokens) out << fmt::format(", \"perplexity\": {}", json_number(std::exp(e.loss)));
    if (e.bits_per_byte) out << fmt::format(", \"bits_per_byte\": {}", json_number(*e.bits_per_byte));
    out << "}\n";
    return;
  }
  if (e.step) out << fmt::format("step {}: ", *e.step);
  out << fmt::format("loss {:.6f}", e.loss);
  if (tokens) out << fmt::format(", perplexity {:.4f}", std::exp(e.loss));
  if (e.bits_per_byte) out << fmt::format(", {:.4f} bits per byte", *e.bits_per_byte);
  out << fmt::format(", {:.2f} % of {} {} right\n", 100 * e.accuracy, e.count, e.item);
}

CommandAction setup_evaluate(CLI::App& app) {
  struct EvaluateArguments {
    EvaluateOptions evaluate;
    std::string split = "validation";
    bool json = false;
  };
  const auto options = std::make_shared<EvaluateArguments>();
  app.add_option("MODEL", options->evaluate.model,
                 "Run directory, or Hugging Face model directory (config.json, *.safetensors)")
      ->required();
  app.add_option("-d,--data", options->evaluate.data, "Directory of data; default: the run's");
  app.add_option("--split", options->split, "validation or training")
      ->check(CLI::IsMember({"validation", "training"}))
      ->capture_default_str();
  app.add_option("--step", options->evaluate.step, "Use the checkpoint of this step; default: the newest")
      ->check(between_numbers(1));
  app.add_option("--set", options->evaluate.sets,
                 "Override a key of the run file: data.context=512, train.batch=4, run.device=cpu; not of "
                 "the model; may be repeated")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--json", options->json, "Print one JSON object, with all digits");
  return [options](Console& console) {
    EvaluateOptions evaluate_options = options->evaluate;
    evaluate_options.training_split = options->split == "training";
    const Environment here = this_environment();
    const MpiLibrary library = parse_mpi_library(mpi_library_version());
    check_bootstrap(here, library);
    bool finite = true;
    run_world({}, [&](Collective& world) {
      check_world_size(here, library, world.size());
      const Evaluation result = evaluate(evaluate_options, world, console.err);
      finite = std::isfinite(result.loss);
      if (world.rank() != 0) return;
      print(result, options->json, console.out);
      console.out.flush();
      if (finite) return;
      console.err << fmt::format(
          "tutti: error: {}: the loss is {}; expected a finite number: the weights are damaged or cause an "
          "overflow\n",
          evaluate_options.model.string(), result.loss);
    });
    return finite ? ExitCode::kDone : ExitCode::kError;
  };
}

}  // namespace

const Command kEvaluateCommand{"evaluate", "Measure a trained model's loss on a data set",
                               R"(  tutti evaluate runs/kjv
  tutti evaluate runs/kjv --data data/other --step 500
  mpirun -n 2 tutti evaluate SmolLM-135M --data data/web --set data.context=1024 --json)",
                               &setup_evaluate};

}  // namespace tutti
