#pragma once

#include "launcher/launch/spec.h"

#include <string>
#include <utility>
#include <vector>

namespace tutti {

/// How mpirun reaches the hosts.
struct MpirunOptions {
  std::string host_file;  ///< path of the file that lists `hosts`; empty: mpirun has them from the scheduler
  std::string remote_shell;  ///< in place of ssh
  /// Of Open MPI's runtime: name and value.
  std::vector<std::pair<std::string, std::string>> parameters;
  bool oversubscribe = false;
};

/// mpirun (mpiexec) with the options of the MPI library that `spec` names, and the command of each rank.
///
/// Open MPI gets keep-alive settings by which a cut link ends the job 8 s later instead of never, and an
/// interruption of 4 s is survived: after 3 s of silence it sends a probe each second, five times. Cores are
/// not bound: each rank places its threads on its share of what the host grants.
std::vector<std::string> mpirun_command(const LaunchSpec& spec, const std::vector<Host>& hosts,
                                        const MpirunOptions& options);

/// The hosts as mpirun of the library reads them from a file.
std::string host_file_text(const LaunchSpec& spec, const std::vector<Host>& hosts);

/// Hosts of a file as Open MPI ("node1 slots=2") or MPICH ("node1:2") writes them, or with one line a rank.
/// `origin` is for messages. Throws Error if a line is malformed or names no host.
std::vector<Host> parse_host_file(std::string_view text, const std::string& origin);

}  // namespace tutti
