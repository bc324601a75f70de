#include "launcher/cli/launch_checks.h"

#include "launcher/launch/adapter.h"
#include "launcher/usage.h"

#include <unistd.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <array>
#include <filesystem>
#include <ostream>

namespace tutti {
namespace {

namespace fs = std::filesystem;

bool holds(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

TrainOptions train_options(const std::vector<std::string>& command) {
  CLI::App app;
  app.allow_extras();
  TrainOptions options;
  app.add_option("RUN.yaml", options.run_file)->required();
  app.add_option("--set", options.sets)->allow_extra_args(false);
  app.add_option("--allow-change", options.allow_change)->delimiter(',')->allow_extra_args(false);
  std::vector<std::string> reversed(command.rbegin(), command.rend() - 1);
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError&) {
    fail_usage("`train` needs a run file: tutti launch --nodes 2 train run.yaml");
  }
  return options;
}

void check_combinations(const LaunchSpec& spec) {
  if (spec.sweep.empty()) return;
  for (int64_t i = 0; i < spec.sweep_size(); ++i)
    (void)read_settings(train_options(combination(spec, i).command));
}

void warn_of_missing_inputs(const std::vector<std::string>& command, std::ostream& err) {
  if (command.front() != "train") return;
  const RunSettings settings = read_settings(train_options(command));
  for (const auto& [key, path] :
       {std::pair("data.path", settings.data.path),
        std::pair("data.validation_path", settings.data.validation_path),
        std::pair("data.skip", settings.data.skip), std::pair("model.weights", settings.model.weights)}) {
    std::error_code error;
    if (path.empty() || fs::exists(path, error)) continue;
    err << fmt::format(
        "tutti: warning: {} {} does not exist on this host: the job fails at once if its hosts lack it too\n",
        key, path);
  }
}

void check_volume(const LaunchSpec& spec, std::ostream& err) {
  if (spec.command.front() != "train") return;
  const TrainOptions options = train_options(spec.command);
  const RunSettings settings = read_settings(options);
  const auto is_inside = [&](const fs::path& path) {
    const fs::path way = fs::absolute(path).lexically_normal().lexically_relative(spec.working_directory);
    return !way.empty() && *way.begin() != "..";
  };
  require(is_inside(settings.run.dir),
          "run.dir {}: is outside the working directory {}, where --volume is mounted: checkpoints would be "
          "lost with their pods. Choose a directory below it, or run tutti in a parent directory",
          settings.run.dir, spec.working_directory);
  for (const auto& [key, path] :
       {std::pair("the run file", options.run_file.string()), std::pair("data.path", settings.data.path),
        std::pair("data.validation_path", settings.data.validation_path),
        std::pair("data.skip", settings.data.skip), std::pair("model.weights", settings.model.weights)}) {
    if (path.empty() || is_inside(path)) continue;
    err << fmt::format(
        "tutti: warning: {} {} is not on the volume: pods have it only if it is in their image\n", key, path);
  }
}

std::optional<int64_t> own_rank(const Environment& here) {
  std::vector<RankStarter> starters{{.rank = "OMPI_COMM_WORLD_RANK", .size = "OMPI_COMM_WORLD_SIZE"},
                                    {.rank = "PMI_RANK", .size = "PMI_SIZE"}};
  for (const Adapter* adapter : adapters()) {
    if (!adapter->starter.rank.empty()) starters.push_back(adapter->starter);
  }
  for (const RankStarter& starter : starters) {
    const bool shell = !starter.shell.empty() && here.find(starter.shell);
    if (here.find(starter.rank) && here.number(starter.size, 1) > 1 && !shell)
      return here.number(starter.rank, 0);
  }
  return std::nullopt;
}

void check_variables(const LaunchSpec& spec, const Environment& here) {
  for (const std::string& name : spec.variables) {
    require_usage(here.find(name).has_value(), "--env {}: this variable is not set here", name);
  }
}

void withhold_secrets(LaunchSpec& spec, const Environment& here, std::ostream& err) {
  constexpr const char* kToken = "TUTTI_METRICS_TOKEN";
  const std::vector<std::string> kept = without_secrets(spec.forwarded, spec.variables);
  const bool token_stays = here.find(kToken) && !holds(kept, kToken);
  for (int64_t i = 0; token_stays && spec.command.front() == "train" && i < spec.sweep_size(); ++i) {
    const LaunchSpec one = spec.sweep.empty() ? spec : combination(spec, i);
    const MetricsSection metrics = read_settings(train_options(one.command)).metrics;
    require(metrics.port == 0 || !metrics.token_file.empty(),
            "{} is set, but schedulers show a job's variables to others: without it, the job's metrics would "
            "answer everyone. Put it into a file that only you can read (chmod 600) and name that by "
            "metrics.token_file, or pass it by --env {}",
            kToken, kToken);
  }
  for (const std::string& name : spec.forwarded) {
    if (holds(kept, name)) continue;
    err << fmt::format(
        "tutti: {} looks like a secret and is not passed to the job; use --env {} to pass it\n", name, name);
  }
  spec.forwarded = kept;
}

void choose_progress(LaunchSpec& spec) {
  if (spec.command.front() != "train" || isatty(STDOUT_FILENO) == 1) return;
  for (const std::string& word : spec.command) {
    if (word == "-q" || word == "--quiet" || word.starts_with("--progress")) return;
  }
  spec.command.insert(spec.command.end(), {"--progress", "lines"});
}

}  // namespace tutti
