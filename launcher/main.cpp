#include "launcher/cli/cli.h"
#include "launcher/info/libraries.h"
#include "launcher/launch/mpi_library.h"
#include "launcher/run/stop_signal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

namespace {

bool is_training(int argc, char** argv) {
  return argc > 1 && std::strcmp(argv[1], "train") == 0;
}

// What the process that started this one chose for SIGHUP (nohup ignores it).
struct sigaction started_hangup;
bool started_hangup_known = false;
sigset_t started_mask;
bool started_mask_known = false;

// A training receives signals from its start on, and libraries take some tenths of a second to initialise
// themselves before main(). Some of them install handlers: UCX, which MPI libraries use, discards SIGHUP.
// Functions in .preinit_array run before all of them. Signals then wait for the handlers that main()
// installs.
#ifdef TUTTI_RUNS_FIRST
void before_libraries(int argc, char** argv, char** environment) {
  started_hangup_known = sigaction(SIGHUP, nullptr, &started_hangup) == 0;
  if (!is_training(argc, argv) || !tutti::catch_stop_signals(environment)) return;
  sigset_t stops;
  (void)sigemptyset(&stops);
  for (const int number : tutti::kStopSignals) (void)sigaddset(&stops, number);
  started_mask_known = pthread_sigmask(SIG_BLOCK, &stops, &started_mask) == 0;
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

volatile std::sig_atomic_t code_at_end = 0;

/// Ends the process when all is written.
[[noreturn]] void end_process(int code) {
  // A library may wait at its end for threads that never answer, as OpenBLAS does where there was no memory
  // to start them. But MPICH disconnects from mpiexec in a destructor: without that, mpiexec 4.2 ends the
  // other ranks, and may exit with 0 whatever the exit codes of the ranks are.
  if (tutti::runs_under_hydra(tutti::parse_mpi_library(tutti::mpi_library_version()))) {
    code_at_end = code;
    (void)std::signal(SIGALRM, [](int) { _exit(code_at_end); });
    sigset_t alarms;
    (void)sigemptyset(&alarms);
    (void)sigaddset(&alarms, SIGALRM);
    (void)pthread_sigmask(SIG_UNBLOCK, &alarms, nullptr);
    (void)alarm(10);
    std::exit(code);
  }
  _exit(code);
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
  if (started_mask_known) (void)pthread_sigmask(SIG_SETMASK, &started_mask, nullptr);
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  tutti::CommandLine command_line;
  tutti::Console console{std::cout, std::cerr};
  const int code = static_cast<int>(command_line.run(arguments, console));
  std::cout.flush();
  std::cerr.flush();
  end_process(code);
}
