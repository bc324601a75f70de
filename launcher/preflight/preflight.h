#pragma once

#include <tutti/comm/collective.h>
#include "launcher/preflight/evaluate.h"

#include <filesystem>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

struct PreflightOptions {
  std::filesystem::path run_file;       ///< empty: none is compared
  std::filesystem::path run_directory;  ///< whose storage is measured
  bool brief = false;                   ///< seconds instead of tens of seconds
  double limit_s = 60;                  ///< time-out, with an error that names the step
};

/// The result, the same on all ranks.
struct PreflightResult {
  std::vector<RankReport> reports;
  Verdict verdict;
  double wall_s = 0;
};

/// Measures every host of the world: speed of CPUs and memory, storage of the run directory, the network
/// between hosts (between ranks if there is only one host), clocks, GPUs; and compares program, run file
/// and libraries. Collective. If it takes longer than options.limit_s, all ranks end with a message that
/// names the current step of the slowest rank.
PreflightResult preflight(const PreflightOptions& options, Collective& world);

/// A table of the hosts, the findings, and the hosts to exclude.
void print_table(const PreflightResult& result, std::ostream& out);

/// The same and all measurements, as JSON: {format, wall_s, good, exclude, findings, hosts, ranks}.
std::string to_json(const PreflightResult& result);

/// The part of that JSON that a launch uses.
struct PreflightAnswer {
  bool fatal = false;
  std::vector<Finding> findings;
};
/// Reads it from a program's output, which may contain other lines. Throws Error if there is none.
PreflightAnswer read_preflight_json(std::string_view output);

}  // namespace tutti
