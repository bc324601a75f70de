#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string_view>

namespace CLI {
class App;
}

namespace tutti {

/// How the program ends; scripts and schedulers rely on the numbers.
enum class ExitCode : uint8_t {
  kDone = 0,
  kError = 1,       ///< one message on stderr names the file, key or rank
  kUsage = 2,       ///< the command line cannot be understood
  kPreempted = 75,  ///< asked to stop and saved: run again with --resume (EX_TEMPFAIL of sysexits.h)
};

/// Where a command writes.
struct Console {
  std::ostream& out;
  std::ostream& err;
};

/// The action of a command after its options are parsed.
using CommandAction = std::function<ExitCode(Console& console)>;

/// One command of the program, such as `tutti info`.
struct Command {
  std::string_view name;
  std::string_view summary;   ///< one line without a full stop
  std::string_view examples;  ///< lines that could be typed, with a comment each
  /// Adds options to `app` and returns the action that uses them. Nothing is done before parsing.
  CommandAction (*setup)(CLI::App& app) = nullptr;
};

/// All commands in the order of the help.
std::span<const Command* const> commands();

}  // namespace tutti
