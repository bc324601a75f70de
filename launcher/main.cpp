#include "launcher/cli/cli.h"
#include "launcher/run/stop_signal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr unsigned kPatienceAtEnd_s = 15;

bool is_training(int argc, char** argv) {
  return argc > 1 && std::strcmp(argv[1], "train") == 0;
}

// A training hears a signal from its first moment on. Libraries take some tenths of a second to initialise
// themselves before main(); what stands in .preinit_array runs before that.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // which must come first
void before_libraries(int argc, char** argv, char** environment) {
  if (is_training(argc, argv)) (void)tutti::catch_stop_signals(environment);
}
[[gnu::section(".preinit_array"), gnu::used]] void (*const first)(int, char**, char**) = &before_libraries;
#endif

/// Files that are opened must not become a standard stream that the caller has closed. Writing to one still
/// fails.
void occupy_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fcntl(stream, F_GETFD) < 0 && errno == EBADF) (void)open("/dev/null", O_RDONLY);
  }
}

}  // namespace

int main(int argc, char** argv) {
  occupy_standard_streams();
  // A file that may not become longer (ulimit -f) is an error of write(), with the file's name.
  (void)std::signal(SIGXFSZ, SIG_IGN);
  if (is_training(argc, argv)) (void)tutti::catch_stop_signals(environ);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  tutti::CommandLine command_line;
  tutti::Console console{std::cout, std::cerr};
  const int code = static_cast<int>(command_line.run(arguments, console));
  std::cout.flush();
  std::cerr.flush();
  // A library may wait at its end for threads that never answer, as OpenBLAS does where there was no memory
  // to start them. All is written now.
  if (code != 0) _exit(code);
  (void)std::signal(SIGALRM, [](int) { _exit(0); });
  (void)alarm(kPatienceAtEnd_s);
  return code;
}
