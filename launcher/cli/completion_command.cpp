#include "launcher/cli/commands.h"
#include "launcher/cli/completion.h"

#include <CLI/CLI.hpp>

#include <ostream>

namespace tutti {
namespace {

CommandAction setup_completion(CLI::App& app) {
  app.require_subcommand(1);
  CLI::App* const bash = app.add_subcommand("bash", "For bash");
  CLI::App* const zsh = app.add_subcommand("zsh", "For zsh");
  app.add_subcommand("fish", "For fish");
  return [&app, bash, zsh](Console& console) {
    const CLI::App& root = *app.get_parent();
    console.out << (bash->parsed()  ? bash_completion(root)
                    : zsh->parsed() ? zsh_completion(root)
                                    : fish_completion(root));
    return ExitCode::kDone;
  };
}

}  // namespace

const Command kCompletionCommand{"completion",
                                 "Print a script that completes commands and options in a shell",
                                 R"sh(  eval "$(tutti completion bash)"
  tutti completion fish > ~/.config/fish/completions/tutti.fish)sh",
                                 &setup_completion};

}  // namespace tutti
