#include "launcher/preflight/preflight.h"

#include <CLI/CLI.hpp>

#include <tutti/comm/factory.h>
#include <tutti/comm/peers.h>
#include <tutti/core/error.h>
#include "launcher/cli/checks.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/set_option.h"
#include "launcher/info/libraries.h"
#include "launcher/launch/bootstrap_check.h"
#include "launcher/run/training.h"

#include <algorithm>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace tutti {
namespace {

struct PreflightArguments {
  PreflightOptions preflight;
  TrainOptions train;
  std::string dir;
  bool json = false;
};

ExitCode run(const PreflightArguments& options, Console& console) {
  PreflightOptions o = options.preflight;
  o.run_file = options.train.run_file;
  o.run_directory = options.dir;
  if (options.dir.empty()) o.run_directory = ".";
  // Where the file cannot be read on some hosts only, the comparison names them.
  std::string problem;
  if (options.dir.empty() && !o.run_file.empty()) {
    try {
      o.run_directory = read_settings(options.train).run.dir;
    } catch (const Error& error) {
      problem = error.what();
    }
  }
  const Environment here = this_environment();
  const MpiLibrary library = parse_mpi_library(mpi_library_version());
  check_bootstrap(here, library);
  // Rank 0 alone says so by its exit code: mpirun and srun end the others as soon as one ends badly, and with
  // them a table that is not printed yet.
  bool good = true;
  run_world({}, [&](Collective& world) {
    check_world_size(here, library, world.size());
    const std::vector<std::string> problems = CollectivePeers(world).all_gather(problem);
    const bool readable =
        std::any_of(problems.begin(), problems.end(), [](const auto& p) { return p.empty(); });
    require(readable, "{}", problems.front());
    const PreflightResult result = preflight(o, world);
    if (world.rank() != 0) return;
    good = result.verdict.good();
    if (options.json) {
      console.out << to_json(result);
    } else {
      print_table(result, console.out);
    }
    console.out.flush();
  });
  return good ? ExitCode::kDone : ExitCode::kError;
}

CommandAction setup_preflight(CLI::App& app) {
  const auto options = std::make_shared<PreflightArguments>();
  app.add_option("RUN.yaml", options->train.run_file, "A run file that must be the same on all hosts");
  add_set_option(app, options->train.sets, "Override a key of the run file; may be repeated");
  app.add_option("--dir", options->dir,
                 "Directory whose storage is tested; default: the run file's run.dir, or the current one");
  app.add_flag("--brief", options->preflight.brief, "A brief test of a few seconds");
  app.add_option("--limit", options->preflight.limit_s, "Time limit in seconds; then report what hangs")
      ->check(between_numbers(1, 3600))
      ->capture_default_str();
  app.add_flag("--json", options->json, "Print JSON instead of the table");
  return [options](Console& console) { return run(*options, console); };
}

}  // namespace

const Command kPreflightCommand{
    "preflight", "Test the hosts of a job before training",
    R"(  mpirun -n 2 tutti preflight                         # CPUs, memory, disk, network, clocks, GPUs
  srun --mpi=pmix tutti preflight run.yaml            # and whether all hosts see the same run file
  tutti launch --nodes 4 preflight --json run.yaml
Hosts that stand out are named, to be left out by `tutti launch --exclude`; the exit code is 1 then.)",
    &setup_preflight};

}  // namespace tutti
