#include "launcher/cli/cli.h"

#include <csignal>
#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  // A file that may not become longer (ulimit -f) is an error of write(), with the file's name.
  (void)std::signal(SIGXFSZ, SIG_IGN);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  tutti::CommandLine command_line;
  tutti::Console console{std::cout, std::cerr};
  return static_cast<int>(command_line.run(arguments, console));
}
