#pragma once

namespace tutti {

// The signals that ask a training to stop: SIGTERM, SIGINT, SIGUSR1; SIGUSR2 and SIGXCPU, which batch systems
// send before a limit; and SIGHUP where nohup has not told the process to ignore it. The first one is
// acknowledged on stderr of rank 0 at once.

/// Catches them from now on: they ask for an orderly end instead of ending the process. A second SIGINT ends
/// it as usual. SIGPIPE and SIGXFSZ are ignored: a reader that is gone and a file that may not grow are
/// errors of writing. To be repeated after libraries that take signals for themselves. Uses nothing but
/// system calls and `environment`, so that it can run before libraries are initialised; returns false if the
/// system refuses.
bool catch_stop_signals(char** environment) noexcept;
/// The same with the process's environment. Throws Error if the system refuses.
void catch_stop_signals();
/// Whether one has come.
bool stop_signalled() noexcept;

/// From now on a stop ends with a checkpoint, which the acknowledgement says.
void stops_save_now() noexcept;
/// All that matters is saved and written: from now on SIGTERM, SIGINT and SIGHUP end the process at once with
/// `exit_code`, even where a library hangs at its end, and SIGUSR1 does nothing.
void stops_end_now(int exit_code) noexcept;

}  // namespace tutti
