#include "launcher/cli/cli.h"

#include <csignal>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  // A reader that went away (`tutti info | head`) shows as a failed write, not as a silent death.
  std::signal(SIGPIPE, SIG_IGN);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  tutti::CommandLine command_line;
  tutti::Console console{std::cout, std::cerr};
  return static_cast<int>(command_line.run(arguments, console));
}
