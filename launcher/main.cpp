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

bool is_training(int argc, char** argv) {
  return argc > 1 && std::strcmp(argv[1], "train") == 0;
}

// How the process that started this one wants SIGHUP to be taken, as by nohup.
struct sigaction started_hangup;
bool started_hangup_known = false;

// A training hears a signal from its first moment on, and libraries take some tenths of a second to
// initialise themselves before main(). Some catch signals while they are at it: UCX, which MPI libraries use,
// takes SIGHUP for itself. What stands in .preinit_array runs before all of them.
#ifdef TUTTI_RUNS_FIRST
void before_libraries(int argc, char** argv, char** environment) {
  started_hangup_known = sigaction(SIGHUP, nullptr, &started_hangup) == 0;
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
  if (is_training(argc, argv))
    (void)tutti::catch_stop_signals(environ);
  else if (started_hangup_known)
    (void)sigaction(SIGHUP, &started_hangup, nullptr);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  tutti::CommandLine command_line;
  tutti::Console console{std::cout, std::cerr};
  const int code = static_cast<int>(command_line.run(arguments, console));
  std::cout.flush();
  std::cerr.flush();
  // All is written now. A library may wait at its end for threads that never answer, as OpenBLAS does where
  // there was no memory to start them.
  _exit(code);
}
