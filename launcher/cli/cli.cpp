#include "launcher/cli/cli.h"

#include "launcher/cli/checks.h"
#include "launcher/info/build.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>
#include "core/config/nearest.h"
#include "core/memory/out_of_memory.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdlib>
#include <ostream>
#include <vector>

namespace tutti {
namespace {

constexpr std::string_view kFooter = R"(Examples:
  tutti data tokens --input book.txt --train-tokenizer 2048 --out data/book
  mpirun -n 2 tutti train models/recipes/gpt-kjv.yaml --set data.path=data/book --set run.dir=runs/book
  tutti report runs/book

`tutti COMMAND --help` shows a command's options and examples.

Exit codes:
  0   done
  1   an error: one message on stderr names the file, key or rank
  2   wrong usage of the command line
  75  asked to stop (SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU, SIGINT, SIGHUP), saved a checkpoint; run it again with --resume.
      Open MPI's mpirun ends with 75 after SIGUSR1 only; after the others with 1, and it kills ranks
      that have not saved in a second (--mca odls_base_sigkill_timeout SECONDS)

Environment:
  TUTTI_ISA=baseline|avx2|avx512       instruction set of the CPU kernels; default: the best that the CPU has
  TUTTI_CPU_MATH=onednn|openblas|own   matrix library; default: the best that this build has
  TUTTI_DEBUG=1                        errors also say where in the source they were found)";

/// The deepest subcommand that was named.
const CLI::App& named_command(const CLI::App& app) {
  const CLI::App* deepest = &app;
  while (!deepest->get_subcommands().empty()) deepest = deepest->get_subcommands().front();
  return *deepest;
}

std::string full_name(const CLI::App& app) {
  return app.get_parent() == nullptr ? app.get_name() : full_name(*app.get_parent()) + " " + app.get_name();
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back(fmt::format("--{}", name));
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

/// A word in the position of a command that is not a command.
struct UnknownCommand {
  std::string word;
  const CLI::App* where;
};

/// CLI11 handles --help before it checks the words before it.
std::optional<UnknownCommand> unknown_command(const CLI::App& app, std::span<const std::string> arguments) {
  const CLI::App* at = &app;
  for (const std::string& word : arguments) {
    const auto commands = at->get_subcommands([](const CLI::App*) { return true; });
    if (word.starts_with('-') || commands.empty()) break;
    const auto named = std::find_if(commands.begin(), commands.end(),
                                    [&](const CLI::App* c) { return c->get_name() == word; });
    if (named == commands.end()) return UnknownCommand{word, at};
    at = *named;
  }
  return std::nullopt;
}

}  // namespace

void print_error(std::string_view message, std::ostream& err) {
  err << "tutti: error: " << message << std::endl;
}

CommandLine::CommandLine()
    : app_(std::make_unique<CLI::App>(
          "Tutti: distributed training on MPI, with one answer at any number of ranks", "tutti")) {
  app_->set_version_flag(
      "--version", [] { return "tutti " + build_version(); }, "Print the version and exit");
  app_->set_help_flag("-h,--help", "Print this help and exit");
  app_->require_subcommand(1);
  app_->footer(std::string(kFooter));
  for (const Command* command : commands()) {
    CLI::App* const sub = app_->add_subcommand(std::string(command->name), std::string(command->summary));
    sub->footer("Examples:\n" + std::string(command->examples));
    CommandAction action = command->setup(*sub);
    check_integers(*sub);
    sub->final_callback([this, action = std::move(action)] { action_ = action; });
  }
}

CommandLine::~CommandLine() = default;

ExitCode CommandLine::refuse_usage(std::string_view problem, const CLI::App& where, Console& console) const {
  print_error(fmt::format("{} (see `{} --help`)", problem, full_name(where)), console.err);
  return ExitCode::kUsage;
}

std::optional<ExitCode> CommandLine::parse(std::span<const std::string> arguments, Console& console) {
  action_ = nullptr;
  // CLI11 takes its arguments last first.
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    app_->parse(reversed);
  } catch (const CLI::Success& success) {
    if (const std::optional<UnknownCommand> unknown = unknown_command(*app_, arguments)) {
      return refuse_usage(fmt::format("unknown command '{}'{}", unknown->word,
                                      did_you_mean(unknown->word, command_names(*unknown->where))),
                          *unknown->where, console);
    }
    (void)app_->exit(success, console.out, console.err);
    return ExitCode::kDone;
  } catch (const CLI::ParseError& error) {
    const CLI::App& where = named_command(*app_);
    std::string problem = error.what();
    const std::vector<std::string> unknown = where.remaining();
    const bool lacks_command = where.get_subcommands().empty() && !command_names(where).empty();
    if (lacks_command && !unknown.empty() && !unknown.front().starts_with('-')) {
      problem = fmt::format("unknown command '{}'{}", unknown.front(),
                            did_you_mean(unknown.front(), command_names(where)));
    } else if (lacks_command && unknown.empty()) {
      problem = fmt::format("a command is missing: one of {}", fmt::join(command_names(where), ", "));
    } else if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr && !unknown.empty()) {
      const std::string name = unknown.front().substr(0, unknown.front().find('='));
      problem = name.starts_with('-')
                    ? fmt::format("unknown option '{}'{}", name, did_you_mean(name, option_names(where)))
                    : fmt::format("'{}' is one argument too many", unknown.front());
    }
    return refuse_usage(problem, where, console);
  }
  return std::nullopt;
}

ExitCode CommandLine::run(std::span<const std::string> arguments, Console& console) try {
  const std::optional<ExitCode> ended = parse(arguments, console);
  const ExitCode code = ended ? *ended : action_(console);
  console.out.flush();
  require(console.out.good(), "cannot write the output: the disk is full or its reader is gone");
  return code;
} catch (const UsageError& error) {
  print_error(error.what(), console.err);
  return ExitCode::kUsage;
} catch (const Error& error) {
  print_error(error.what(), console.err);
  if (std::getenv("TUTTI_DEBUG") != nullptr) {
    console.err << "  found at " << error.where().file_name() << ":" << error.where().line() << std::endl;
  }
  return ExitCode::kError;
} catch (const std::exception& error) {
  print_error(error_text(error), console.err);
  return ExitCode::kError;
} catch (...) {
  print_error("an unknown exception", console.err);
  return ExitCode::kError;
}

}  // namespace tutti
