#include "launcher/cli/cli.h"

#include <iostream>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  tutti::CommandLine command_line;
  tutti::Console console{std::cout, std::cerr};
  return static_cast<int>(command_line.run(arguments, console));
}
