#pragma once

#include <csignal>

namespace tutti {

/// Signals that request a stop of the training; SIGUSR2 and SIGXCPU are sent by batch systems before a limit,
/// and SIGHUP does not count where nohup made the process ignore it. The first one is acknowledged
/// immediately on stderr of rank 0.
inline constexpr int kStopSignals[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGXCPU};

/// Installs handlers for them: they request an orderly end instead of ending the process. A second SIGINT
/// ends it as usual. SIGPIPE and SIGXFSZ are ignored: a closed pipe and a file size limit are write errors.
/// Must be repeated after the initialisation of libraries that install signal handlers. Uses only system
/// calls and `environment`, so that it can run before libraries are initialised; returns false if the system
/// refuses.
bool catch_stop_signals(char** environment) noexcept;
/// The same with the process's environment. Throws Error if the system refuses.
void catch_stop_signals();
/// Whether one was received.
bool stop_signalled() noexcept;

/// After this call a stop ends with a checkpoint, and the acknowledgement says so.
void stops_save_now() noexcept;
/// To be called when everything is saved and written: SIGTERM, SIGINT and SIGHUP then end the process
/// immediately with `exit_code`, even if a library hangs during finalisation, and SIGUSR1 has no effect.
void stops_end_now(int exit_code) noexcept;

}  // namespace tutti
