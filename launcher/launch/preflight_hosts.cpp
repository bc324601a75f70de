#include "launcher/launch/preflight_hosts.h"

#include "launcher/launch/child.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <vector>

namespace tutti {
namespace {

using Severity = Finding::Severity;

// The time limit of preflight itself, and the time to start ranks.
constexpr double kLimit_s = 60;
constexpr double kStart_s = 30;

/// Whether a host's own name and a scheduler's name for it are of one host: one may have a domain.
bool is_same_host(std::string_view own, std::string_view listed) {
  const auto label = [](std::string_view name) { return name.substr(0, name.find('.')); };
  const bool both_long =
      own.find('.') != std::string_view::npos && listed.find('.') != std::string_view::npos;
  return own == listed || (!both_long && label(own) == label(listed));
}

/// The last lines of a program's messages.
std::string tail(const std::string& text) {
  constexpr size_t kMost = 2000;
  return text.size() > kMost ? "..." + text.substr(text.size() - kMost) : text;
}

std::string text_of(const Finding& finding) {
  return fmt::format("{}{}: {}", finding.host.empty() ? "" : finding.host + ": ", finding.check,
                     finding.text);
}

}  // namespace

LaunchSpec without_bad_hosts(const LaunchSpec& spec, const Allocation& allocation,
                             const PreflightAnswer& answer, std::ostream& err) {
  std::map<std::string, Severity> worst;
  for (const Finding& finding : answer.findings) {
    err << fmt::format("tutti: preflight: {}: {}\n", name(finding.severity), text_of(finding));
    if (finding.severity == Severity::kWarning || finding.host.empty()) continue;
    Severity& severity = worst.try_emplace(finding.host, finding.severity).first->second;
    severity = std::max(severity, finding.severity);
  }
  err << std::flush;
  const auto fatal = std::find_if(answer.findings.begin(), answer.findings.end(), [](const Finding& finding) {
    return finding.severity == Severity::kFatal;
  });
  if (fatal != answer.findings.end()) {
    fail("preflight: {} (--preflight off starts the ranks anyway)", text_of(*fatal));
  }
  LaunchSpec kept = spec;
  const auto left = [&] {
    return std::count_if(allocation.hosts.begin(), allocation.hosts.end(), [&](const Host& host) {
      return std::find(kept.exclude.begin(), kept.exclude.end(), host.name) == kept.exclude.end();
    });
  };
  // Bad hosts first: their replacements are not available for slow ones.
  for (const Severity severity : {Severity::kBad, Severity::kSlow}) {
    for (const auto& [host, found] : worst) {
      if (found != severity) continue;
      const auto ours = std::find_if(allocation.hosts.begin(), allocation.hosts.end(),
                                     [&](const Host& h) { return is_same_host(host, h.name); });
      const int64_t least = severity == Severity::kBad || kept.nodes == 0 ? 1 : kept.nodes;
      const bool all_wanted = severity == Severity::kSlow && kept.nodes == 0;
      if (ours == allocation.hosts.end() || left() <= least || all_wanted) {
        require(severity == Severity::kBad || spec.preflight != "strict",
                "preflight: {} is slow, and there is no host to replace it (--preflight on starts the ranks "
                "anyway)",
                host);
        err << fmt::format("tutti: preflight: {} is used, because there is no host to replace it\n", host);
        continue;
      }
      kept.exclude.push_back(ours->name);
      kept.nodes = std::min<int64_t>(kept.nodes, left());
      err << fmt::format("tutti: preflight: {} is excluded; {} hosts remain\n", host, left());
    }
  }
  err << std::flush;
  return kept;
}

LaunchSpec preflight_hosts(const Adapter& adapter, const LaunchSpec& spec, const Allocation& allocation,
                           const Environment& here, const std::string& run_file, std::ostream& err) {
  LaunchSpec trial = spec;
  // Also hosts that the training may not need; as many as it needs if the environment does not name them.
  if (!allocation.hosts.empty()) trial.nodes = 0;
  trial.command = {"preflight", "--brief", "--json", "--dir", spec.run_directory, run_file};
  const std::vector<Host> hosts = placed_hosts(trial, allocation);
  if (total_ranks(hosts) <= 1) return spec;
  PreflightAnswer answer;
  try {
    const Rendered rendered = adapter.render(trial, allocation);
    for (const LaunchFile& file : rendered.files) write_file_atomically(file.path, file.text);
    Variables variables = child_environment(here.variables, spec.variables);
    for (const auto& [name, value] : rendered.variables) variables[name] = value;
    variables["TUTTI_LAUNCH_RANKS"] = std::to_string(total_ranks(hosts));
    const Output output = run_to_end(rendered.argv, variables, kLimit_s + kStart_s);
    require(!output.out.empty(), "exit code {}: {}", output.exit_code, tail(output.err));
    answer = read_preflight_json(output.out);
    write_file_atomically(spec.run_directory + "/preflight.json", output.out);
  } catch (const std::exception& problem) {
    err << fmt::format("tutti: preflight has no result: {}\ntutti: the ranks are started anyway\n",
                       problem.what())
        << std::flush;
    return spec;
  }
  return without_bad_hosts(spec, allocation, answer, err);
}

}  // namespace tutti
