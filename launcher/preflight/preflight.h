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
  std::filesystem::path run_directory;  ///< whose storage is tried
  bool brief = false;                   ///< some seconds in place of some tens
  double limit_s = 60;                  ///< after which it ends as an error that names what hangs
};

/// What came of it, the same on all ranks.
struct PreflightResult {
  std::vector<RankReport> reports;
  Verdict verdict;
  double wall_s = 0;
};

/// Tries out every host of the world: speed of CPUs and memory, storage of the run directory, the network
/// between hosts (between the ranks where there is one host), clocks, GPUs; and compares program, run file
/// and libraries. Collective. If it takes longer than options.limit_s, all ranks end with a message that
/// names the step that the slowest rank is at.
PreflightResult preflight(const PreflightOptions& options, Collective& world);

/// A table of the hosts, the findings, and what to leave out.
void print_table(const PreflightResult& result, std::ostream& out);

/// The same and all measurements, as JSON: {format, wall_s, good, exclude, findings, hosts, ranks}.
std::string to_json(const PreflightResult& result);

/// What a launcher needs of that JSON.
struct PreflightAnswer {
  bool fatal = false;
  std::vector<Finding> findings;
};
/// Reads it out of a program's output, whatever stands around it. Throws Error if it is not there.
PreflightAnswer read_preflight_json(std::string_view output);

}  // namespace tutti
