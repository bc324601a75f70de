#pragma once

#include "launcher/cli/command.h"

#include <memory>
#include <optional>
#include <span>
#include <string>

namespace tutti {

/// The command line as a tree of commands and options, and the actions behind it.
class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  /// Parses `arguments` (without the program's name) and runs the command. Every error becomes one message on
  /// console.err and an exit code; nothing is thrown.
  ExitCode run(std::span<const std::string> arguments, Console& console);

  /// Parses without running. Returns an exit code if there is nothing to run: after a usage error, which is
  /// reported on console.err, and after --help and --version.
  std::optional<ExitCode> parse(std::span<const std::string> arguments, Console& console);

  [[nodiscard]] const CLI::App& app() const { return *app_; }

 private:
  ExitCode refuse_usage(std::string_view problem, const CLI::App& where, Console& console) const;

  std::unique_ptr<CLI::App> app_;
  CommandAction action_;
};

/// Prints "tutti: error: " and the message, the form in which all commands report fatal errors.
void print_error(std::string_view message, std::ostream& err);

}  // namespace tutti
