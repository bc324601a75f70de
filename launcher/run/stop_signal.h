#pragma once

namespace tutti {

/// Catches SIGTERM, SIGUSR1 and SIGINT from now on: they ask for an orderly end instead of ending the
/// process. A second SIGINT ends it as usual.
void catch_stop_signals();
/// Whether one has come.
bool stop_signalled() noexcept;

}  // namespace tutti
