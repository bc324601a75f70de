#include <CLI/CLI.hpp>

#include <tutti/comm/factory.h>
#include "launcher/cli/cli.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/set_option.h"
#include "launcher/info/libraries.h"
#include "launcher/launch/bootstrap_check.h"
#include "launcher/run/stop_signal.h"
#include "launcher/run/training.h"

#include <memory>

namespace tutti {
namespace {

struct TrainArguments {
  TrainOptions train;
  std::string progress = "auto";
  bool quiet = false;
};

ExitCode exit_code(TrainResult::Reason reason) {
  switch (reason) {
    case TrainResult::Reason::kCompleted:
      return ExitCode::kDone;
    case TrainResult::Reason::kStopped:
      return ExitCode::kPreempted;
    case TrainResult::Reason::kNotFinite:
      return ExitCode::kError;
  }
  return ExitCode::kError;
}

ExitCode run(const TrainArguments& options, Console& console) {
  TrainOptions train_options = options.train;
  train_options.progress = options.quiet ? ProgressStyle::kNone : progress_style_from_name(options.progress);
  TrainResult::Reason reason = TrainResult::Reason::kCompleted;
  const Environment here = this_environment();
  const MpiLibrary library = parse_mpi_library(mpi_library_version());
  check_bootstrap(here, library);
  catch_stop_signals();
  run_world({}, [&](Collective& world) {
    catch_stop_signals();  // libraries that MPI loads may have replaced the handlers
    check_world_size(here, library, world.size());
    reason = train(train_options, world, console.out, console.err);
    stops_end_now(static_cast<int>(exit_code(reason)));
    if (reason == TrainResult::Reason::kNotFinite && world.rank() == 0) {
      print_error(
          "training ended: the loss or gradient was not finite for more than train.max_skipped_steps "
          "consecutive steps, or in the last step; such steps neither changed the weights nor were saved. A "
          "smaller optimizer.learning_rate or optimizer.clip_norm may help",
          console.err);
    }
  });
  console.out.clear();  // without a reader of its output, a training still succeeds
  return exit_code(reason);
}

CommandAction setup_train(CLI::App& app) {
  const auto options = std::make_shared<TrainArguments>();
  app.add_option("RUN.yaml", options->train.run_file, "The run file; models/recipes holds one for each model")
      ->required();
  add_set_option(app, options->train.sets,
                 "Override a key of the run file: train.steps=100; may be repeated");
  auto* const resume = app.add_flag("--resume", options->train.resume,
                                    "Resume from the newest checkpoint in the run directory; begin if there "
                                    "is none; finish a run that has done all its steps");
  app.add_option("--allow-change", options->train.allow_change,
                 "With --resume: keys or sections that may differ from the checkpoint although they change "
                 "results: optimizer,data.training")
      ->type_name("KEY[,KEY...]")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->needs(resume);
  app.add_option("--progress", options->progress, "auto, bar, lines, events or none")
      ->check(CLI::IsMember({"auto", "bar", "lines", "events", "none"}))
      ->capture_default_str();
  app.add_flag("-q,--quiet", options->quiet, "Print errors only");
  return [options](Console& console) {
    options->train.command_line = {"tutti", "train", options->train.run_file.string()};
    for (const std::string& set : options->train.sets) {
      options->train.command_line.insert(options->train.command_line.end(), {"--set", set});
    }
    if (options->train.resume) options->train.command_line.emplace_back("--resume");
    for (const std::string& key : options->train.allow_change) {
      options->train.command_line.insert(options->train.command_line.end(), {"--allow-change", key});
    }
    return run(*options, console);
  };
}

}  // namespace

const Command kTrainCommand{
    "train", "Train a model described by a run file",
    R"(  tutti train models/recipes/mlp-fashion.yaml            # one process, all cores
  mpirun -n 2 tutti train models/recipes/gpt-kjv.yaml    # two ranks, the same answer
  tutti train run.yaml --set train.steps=50 --set run.dir=runs/try
  mpirun -n 4 tutti train run.yaml --resume              # go on, with another number of ranks)",
    &setup_train};

}  // namespace tutti
