#include "launcher/cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <string_view>
#include <vector>

namespace tutti {
namespace {

struct OptionNode {
  std::vector<std::string> names;  ///< "-h", "--help"
  std::string help;
  bool takes_value = false;
};

/// A command as completion sees it.
struct CommandNode {
  std::vector<std::string> path;  ///< "tutti", "data", "tokens"
  std::string help;
  std::vector<std::string> commands;
  std::vector<std::string> command_helps;
  std::vector<OptionNode> options;
};

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

/// All commands of the tree, parents first.
void collect(const CLI::App& app, std::vector<std::string> path, std::vector<CommandNode>& all) {
  path.push_back(app.get_name());
  CommandNode node{.path = path, .help = first_line(app.get_description())};
  for (const CLI::Option* option : app.get_options()) {
    OptionNode entry{.help = first_line(option->get_description()),
                     .takes_value = option->get_items_expected_max() > 0};
    for (const std::string& name : option->get_snames()) entry.names.push_back(fmt::format("-{}", name));
    for (const std::string& name : option->get_lnames()) entry.names.push_back(fmt::format("--{}", name));
    if (!entry.names.empty()) node.options.push_back(std::move(entry));
  }
  const auto subcommands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : subcommands) {
    node.commands.push_back(command->get_name());
    node.command_helps.push_back(first_line(command->get_description()));
  }
  all.push_back(std::move(node));
  for (const CLI::App* command : subcommands) collect(*command, path, all);
}

std::vector<CommandNode> collect(const CLI::App& root) {
  std::vector<CommandNode> all;
  collect(root, {}, all);
  return all;
}

std::string joined(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " "));
}

/// A word for bash, zsh and fish alike: in single quotes. fish alone knows a backslash inside them.
std::string shell_word(std::string_view text, bool fish = false) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += fish ? "\\'" : "'\\''";
    } else if (c == '\\' && fish) {
      out += "\\\\";
    } else {
      out += c;
    }
  }
  return out + "'";
}

/// Shell code that follows the words typed so far into $chain ("tutti data tokens").
std::string chain_cases(const std::vector<CommandNode>& all) {
  std::string out;
  for (const CommandNode& node : all) {
    if (node.path.size() > 1)
      out += fmt::format("      {}) chain=\"$chain $word\" ;;\n", shell_word(joined(node.path)));
  }
  return out;
}

}  // namespace

std::string bash_completion(const CLI::App& root) {
  const std::vector<CommandNode> all = collect(root);
  std::string values;
  std::string words;
  for (const CommandNode& node : all) {
    std::vector<std::string> here = node.commands;
    for (const OptionNode& option : node.options) {
      for (const std::string& name : option.names) {
        here.push_back(name);
        if (option.takes_value)
          values +=
              fmt::format("    {}) return ;;\n", shell_word(fmt::format("{} {}", joined(node.path), name)));
      }
    }
    words += fmt::format("    {}) words={} ;;\n", shell_word(joined(node.path)), shell_word(joined(here)));
  }
  return fmt::format(R"sh(# bash completion of {0}, written by `{0} completion bash`.
# For this shell: eval "$({0} completion bash)". For all: put it into ~/.local/share/bash-completion/completions/{0}
_{0}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} chain={0} word words= i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    word=${{COMP_WORDS[i]}}
    case "$chain $word" in
{1}    esac
  done
  # The value of an option is a file more often than not: an empty answer lets bash complete files.
  case "$chain $previous" in
{2}  esac
  case "$chain" in
{3}  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _{0} {0}
)sh",
                     root.get_name(), chain_cases(all), values, words);
}

std::string zsh_completion(const CLI::App& root) {
  const std::vector<CommandNode> all = collect(root);
  std::string values;
  std::string words;
  // _describe splits its entries at the first colon.
  const auto entry = [](std::string_view name, std::string_view help) {
    std::string word;
    for (const char c : name) {
      if (c == ':') word += '\\';
      word += c;
    }
    return shell_word(fmt::format("{}:{}", word, help));
  };
  for (const CommandNode& node : all) {
    std::string subcommands;
    std::string options;
    for (size_t i = 0; i < node.commands.size(); ++i) {
      subcommands += fmt::format(" {}", entry(node.commands[i], node.command_helps[i]));
    }
    for (const OptionNode& option : node.options) {
      for (const std::string& name : option.names) {
        options += fmt::format(" {}", entry(name, option.help));
        if (option.takes_value) {
          values += fmt::format("    {}) _files; return ;;\n",
                                shell_word(fmt::format("{} {}", joined(node.path), name)));
        }
      }
    }
    words += fmt::format("    {})\n      subcommands=({})\n      options=({}) ;;\n",
                         shell_word(joined(node.path)), subcommands, options);
  }
  return fmt::format(R"sh(#compdef {0}
# zsh completion of {0}, written by `{0} completion zsh`.
# For this shell: eval "$({0} completion zsh)". For all: put it as _{0} into a folder of $fpath.
_{0}() {{
  local chain={0} word i
  local -a subcommands options
  for ((i = 2; i < CURRENT; ++i)); do
    word=$words[i]
    case "$chain $word" in
{1}    esac
  done
  case "$chain $words[CURRENT-1]" in
{2}  esac
  case "$chain" in
{3}  esac
  if [[ $PREFIX == -* ]]; then
    _describe -o option options
  elif (( $#subcommands )); then
    _describe command subcommands
  else
    _files
  fi
}}
if [[ $funcstack[1] == _{0} ]]; then _{0} "$@"; else compdef _{0} {0}; fi
)sh",
                     root.get_name(), chain_cases(all), values, words);
}

std::string fish_completion(const CLI::App& root) {
  const std::string& program = root.get_name();
  std::string out = fmt::format(
      "# fish completion of {0}, written by `{0} completion fish`.\n"
      "# For this shell: {0} completion fish | source. For all: put it into "
      "~/.config/fish/completions/{0}.fish\n",
      program);
  for (const CommandNode& node : collect(root)) {
    // A command holds while all words of its path are there and none of its subcommands is.
    std::string condition;
    for (size_t i = 1; i < node.path.size(); ++i) {
      condition += fmt::format("{}__fish_seen_subcommand_from {}", i > 1 ? "; and " : "", node.path[i]);
    }
    if (!node.commands.empty()) {
      condition += fmt::format("{}not __fish_seen_subcommand_from {}", condition.empty() ? "" : "; and ",
                               joined(node.commands));
    }
    for (size_t i = 0; i < node.commands.size(); ++i) {
      out += fmt::format("complete -c {} -f -n {} -a {} -d {}\n", program, shell_word(condition, true),
                         shell_word(node.commands[i], true), shell_word(node.command_helps[i], true));
    }
    for (const OptionNode& option : node.options) {
      std::string names;
      for (const std::string& name : option.names) {
        names += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                                        : fmt::format(" -s {}", name.substr(1));
      }
      out += fmt::format("complete -c {} -n {}{}{} -d {}\n", program, shell_word(condition, true), names,
                         option.takes_value ? " -r" : "", shell_word(option.help, true));
    }
  }
  return out;
}

}  // namespace tutti
