#include "launcher/cli/commands.h"
#include "launcher/cli/set_option.h"
#include "launcher/run/run_settings.h"

#include <tutti/core/config/run_file.h>

#include <CLI/CLI.hpp>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace tutti {
namespace {

struct ConfigArguments {
  std::string run_file;
  std::vector<std::string> sets;
  bool help_keys = false;
};

ExitCode config(const ConfigArguments& options, Console& console) {
  RunFile file = options.run_file.empty() ? RunFile() : RunFile::from_file(options.run_file);
  for (const std::string& assignment : options.sets) file.set(assignment);
  RunSettings settings;
  file.read(settings);
  console.out << (options.help_keys ? help_text(settings) : to_yaml(settings, YamlComments::kHelp));
  return ExitCode::kDone;
}

CommandAction setup_config(CLI::App& app) {
  const auto options = std::make_shared<ConfigArguments>();
  app.add_option("RUN.yaml", options->run_file, "A run file; default: show the defaults");
  add_set_option(app, options->sets, "Override a key: train.steps=100; may be repeated");
  app.add_flag("--help-keys", options->help_keys, "List all keys with type, value, range and meaning");
  return [options](Console& console) { return config(*options, console); };
}

}  // namespace

const Command kConfigCommand{"config", "Check a run file and print it with all keys, or explain the keys",
                             R"(  tutti config models/recipes/gpt-kjv.yaml --set train.steps=50
  tutti config --help-keys
  tutti config > run.yaml    # a run file to begin with)",
                             &setup_config};

}  // namespace tutti
