#include "launcher/launch/wait_for_hosts.h"

#include "launcher/launch/child.h"
#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>
#include <tutti/core/io/file.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <ostream>
#include <thread>

namespace tutti {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kTrial_s = 60;
constexpr auto kPause = std::chrono::seconds(2);
constexpr int kNotStartedCode = 255;  // of ssh, and so of mpirun

/// The line of a program's messages that describes best why a host was not reached.
std::string telling_line(std::string_view text) {
  constexpr std::array<std::string_view, 4> kSigns{"ssh: ", "Could not resolve", "onnection refused",
                                                   "timed out"};
  std::string_view first;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.find_first_not_of(" -\r") == std::string_view::npos) continue;
    if (first.empty()) first = line;
    if (std::any_of(kSigns.begin(), kSigns.end(),
                    [&](std::string_view sign) { return line.find(sign) != std::string_view::npos; })) {
      return std::string(without_line_end(line));
    }
  }
  return first.empty() ? "no message" : std::string(without_line_end(first));
}

/// Starts an idle rank on each host. Returns the message if a host did not answer.
std::optional<std::string> unanswered(const Adapter& adapter, const LaunchSpec& trial,
                                      const Allocation& allocation, const Environment& here) {
  const Rendered rendered = adapter.render(trial, allocation);
  for (const LaunchFile& file : rendered.files) write_file_atomically(file.path, file.text);
  Variables variables = child_environment(here.variables, trial.variables);
  for (const auto& [name, value] : rendered.variables) variables[name] = value;
  try {
    const Output output = run_to_end(rendered.argv, variables, kTrial_s);
    if (output.exit_code != kNotStartedCode) return std::nullopt;
    return telling_line(output.err.empty() ? output.out : output.err);
  } catch (const Error& problem) {
    return problem.what();  // the time-out has expired
  }
}

}  // namespace

void wait_for_hosts(const Adapter& adapter, const LaunchSpec& spec, const Allocation& allocation,
                    const Environment& here, std::ostream& err) {
  if (adapter.host_wait_s == nullptr) return;
  LaunchSpec trial = spec;
  trial.command = {"--version"};
  trial.ranks_per_node = 1;
  trial.gpus_per_node = 0;
  const std::vector<Host> hosts = placed_hosts(trial, allocation);
  const auto is_here = [&](const Host& host) { return host.name == here.host || host.name == "localhost"; };
  if (std::all_of(hosts.begin(), hosts.end(), is_here)) return;
  const int64_t timeout_s = spec.wait_s >= 0 ? spec.wait_s : adapter.host_wait_s(here);
  const auto end = Clock::now() + std::chrono::seconds(timeout_s);
  bool announced = false;
  while (const std::optional<std::string> problem = unanswered(adapter, trial, allocation, here)) {
    require(Clock::now() < end, "not all hosts answer within {} s (--wait gives them longer): {}", timeout_s,
            *problem);
    if (!announced) {
      err << fmt::format("tutti: not all hosts answer yet; waiting for them, {} s at most: {}\n", timeout_s,
                         *problem)
          << std::flush;
    }
    announced = true;
    std::this_thread::sleep_for(
        std::min<Clock::duration>(kPause, std::max<Clock::duration>(end - Clock::now(), {})));
  }
  if (announced) err << "tutti: all hosts answer now\n" << std::flush;
}

}  // namespace tutti
