#include "launcher/launch/spec.h"

#include "launcher/launch/adapter.h"
#include "launcher/launch/quoting.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <tuple>

namespace tutti {
namespace {

constexpr int64_t kMostNodes = 100'000;
constexpr int64_t kMostPerNode = 4096;
constexpr int64_t kMostSweep = 10'000;

void check_number(std::string_view option, int64_t value, int64_t low, int64_t high) {
  require_usage(value >= low && value <= high, "{} {}: expected a number between {} and {}", option, value,
                low, high);
}

void check_word(std::string_view option, const std::string& value) {
  require_usage(value.empty() || is_plain_word(value),
                "{} '{}': expected letters, digits and any of . _ + @ / : = , - and no - in front", option,
                value);
}

void check_starter(const std::string& starter) {
  std::vector<std::string_view> names{"auto"};
  for (const Adapter* adapter : adapters()) {
    if (!adapter->starter.name.empty()) names.push_back(adapter->starter.name);
  }
  const bool known = starter == "mpirun" || std::find(names.begin(), names.end(), starter) != names.end();
  require_usage(known, "--starter '{}': expected {} or mpirun", starter, fmt::join(names, ", "));
}

void check_path(std::string_view option, const std::string& path) {
  require(!has_control_character(path), "{}: a path with a line break or another control character", option);
}

/// "10.77.0.0/24", "eth0,ib0": what MPI takes as a list of interfaces.
bool is_interface(std::string_view text) {
  return is_plain_word(text) && text.find_first_of("=@+") == std::string_view::npos;
}

}  // namespace

int64_t LaunchSpec::sweep_size() const {
  int64_t size = 1;
  for (const SweepAxis& axis : sweep) {
    const auto values = static_cast<int64_t>(axis.values.size());
    if (values > 0 && size > std::numeric_limits<int64_t>::max() / values) {
      return std::numeric_limits<int64_t>::max();
    }
    size *= values;
  }
  return size;
}

void check(const LaunchSpec& spec) {
  check_number("--nodes", spec.nodes, 0, kMostNodes);
  check_number("--ranks-per-node", spec.ranks_per_node, 0, kMostPerNode);
  check_number("--gpus-per-node", spec.gpus_per_node, 0, kMostPerNode);
  check_number("--cores-per-rank", spec.cores_per_rank, 0, kMostPerNode);
  check_number("--restarts", spec.restarts, 0, 1000);
  check_number("--sweep-limit", spec.sweep_limit, 0, kMostSweep);
  require_usage(
      spec.gpus_per_node == 0 || spec.ranks_per_node <= spec.gpus_per_node,
      "--ranks-per-node {} with --gpus-per-node {}: two ranks would share a GPU. Ask for at most one rank "
      "a GPU",
      spec.ranks_per_node, spec.gpus_per_node);
  require_usage(spec.time_limit_s == 0 || spec.grace_s < spec.time_limit_s,
                "--grace {} s: ranks would be asked to stop before the {} s of --time have begun",
                spec.grace_s, spec.time_limit_s);
  check_starter(spec.starter);
  require_usage(is_plain_word(spec.name) && spec.name.find_first_of("/,:=@") == std::string::npos,
                "--name '{}': expected letters, digits and any of . _ + - and no - in front", spec.name);
  check_word("--account", spec.account);
  check_word("--partition", spec.partition);
  check_word("--qos", spec.qos);
  check_word("--mpi", spec.mpi);
  require_usage(spec.interface.empty() || is_interface(spec.interface),
                "--interface '{}': expected a network such as 10.1.0.0/16, or names of interfaces",
                spec.interface);
  require_usage(spec.preflight == "on" || spec.preflight == "strict" || spec.preflight == "off",
                "--preflight '{}': expected on, strict or off", spec.preflight);
  for (const std::string& host : spec.exclude) {
    require_usage(is_host_name(host), "--exclude '{}' is not a host name", host);
  }
  for (const std::string& directive : spec.directives) {
    require_usage(directive.starts_with('-') && !has_control_character(directive),
                  "--directive '{}': expected one option of the scheduler, such as --constraint=a100",
                  directive);
  }
  for (const std::string& name : spec.variables) {
    require_usage(is_variable_name(name),
                  "--env '{}': expected the name of a variable; its value is taken from "
                  "the environment and is not written into scripts",
                  name);
  }
  check_path("the executable", spec.executable);
  check_path("the working directory", spec.working_directory);
  check_path("the run directory", spec.run_directory);
  require_usage(
      !spec.command.empty(),
      "what to run is missing: put a command after the options, such as `tutti launch --nodes 2 train "
      "run.yaml`");
  require_usage(spec.sweep.empty() || spec.command.front() == "train", "--sweep needs `train`, not `{}`",
                spec.command.front());
  std::set<std::string> keys;
  for (const SweepAxis& axis : spec.sweep) {
    require_usage(axis.key != "run.dir",
                  "--sweep run.dir: each combination has a run directory of its own already");
    require_usage(keys.insert(axis.key).second,
                  "--sweep {}: is given twice; give all values in one: {}=V1,V2", axis.key, axis.key);
  }
  require_usage(spec.sweep_size() <= kMostSweep, "--sweep: {} combinations are more than {}",
                spec.sweep_size(), kMostSweep);
}

SweepAxis parse_sweep_axis(std::string_view text) {
  const size_t equals = text.find('=');
  SweepAxis axis{.key = std::string(text.substr(0, equals))};
  const auto refuse = [&] {
    fail_usage("--sweep '{}': expected a key and its values, such as optimizer.learning_rate=0.001,0.003",
               text);
  };
  if (equals == std::string_view::npos || axis.key.empty()) refuse();
  std::string_view rest = text.substr(equals + 1);
  while (true) {
    const size_t comma = rest.find(',');
    axis.values.emplace_back(rest.substr(0, comma));
    if (axis.values.back().empty()) refuse();
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  return axis;
}

LaunchSpec combination(const LaunchSpec& spec, int64_t index) {
  require(index >= 0 && index < spec.sweep_size(), "there is no combination {} in a sweep of {}", index,
          spec.sweep_size());
  LaunchSpec one = spec;
  one.sweep.clear();
  one.run_directory = fmt::format("{}/{:03}", spec.run_directory, index);
  int64_t rest = index;
  for (const SweepAxis& axis : spec.sweep) {
    const auto size = static_cast<int64_t>(axis.values.size());
    one.command.insert(
        one.command.end(),
        {"--set", fmt::format("{}={}", axis.key, axis.values[static_cast<size_t>(rest % size)])});
    rest /= size;
  }
  one.command.insert(one.command.end(), {"--set", "run.dir=" + one.run_directory});
  return one;
}

std::vector<Host> placed_hosts(const LaunchSpec& spec, const Allocation& allocation) {
  const bool fixed = spec.ranks_per_node > 0 || spec.gpus_per_node > 0;
  const int64_t wanted =
      spec.ranks_per_node > 0 ? spec.ranks_per_node : std::max<int64_t>(1, spec.gpus_per_node);
  if (allocation.hosts.empty()) {
    return std::vector<Host>(static_cast<size_t>(std::max<int64_t>(1, spec.nodes)),
                             Host{.slots = wanted, .gpus = spec.gpus_per_node});
  }
  std::vector<Host> hosts;
  for (const Host& host : allocation.hosts) {
    const bool excluded =
        std::find(spec.exclude.begin(), spec.exclude.end(), host.name) != spec.exclude.end();
    if (!excluded) hosts.push_back(host);
  }
  const auto nodes = static_cast<size_t>(spec.nodes);
  require(!hosts.empty(), "no host is left: all of them are excluded");
  require(hosts.size() >= nodes, "--nodes {}: {} has {}{}", nodes,
          allocation.job_id.empty() ? "this machine or host file" : "job " + allocation.job_id, hosts.size(),
          spec.exclude.empty() ? "" : " without those that are excluded");
  if (nodes > 0) hosts.resize(nodes);
  for (Host& host : hosts) {
    require(host.gpus >= spec.gpus_per_node || host.gpus == 0, "--gpus-per-node {}: {} shows {}",
            spec.gpus_per_node, host.name, host.gpus);
    const bool bounded = allocation.place != Allocation::Place::kHere;
    const int64_t most = std::max(host.slots, host.cores);
    if (fixed) host.slots = wanted;
    require(!bounded || host.slots <= most,
            "--ranks-per-node {}: the job has room for {} on {}. Ask the scheduler for more tasks a node",
            wanted, most, host.name);
    if (!bounded || host.cores == 0 || spec.cores_per_rank == 0) continue;
    const int64_t fitting = std::max<int64_t>(1, host.cores / spec.cores_per_rank);
    if (!fixed) host.slots = std::min(host.slots, fitting);
    require(host.slots * spec.cores_per_rank <= host.cores,
            "--cores-per-rank {} for {} ranks: the job has {} cores on {}. Ask the scheduler for more",
            spec.cores_per_rank, host.slots, host.cores, host.name);
  }
  return hosts;
}

std::vector<std::string> idle_gpus(const LaunchSpec& spec, const std::vector<Host>& hosts) {
  // Hosts that differ only in their names share a line.
  std::map<std::tuple<int64_t, int64_t, int64_t>, std::vector<std::string>> alike;
  for (const Host& host : hosts) {
    if (host.gpus > host.slots) alike[{host.gpus, host.slots, host.cores}].push_back(host.name);
  }
  std::vector<std::string> lines;
  if (spec.ranks_per_node > 0) return lines;  // the user's choice
  for (const auto& [size, names] : alike) {
    const auto [gpus, slots, cores] = size;
    const int64_t wanted = gpus * std::max<int64_t>(1, spec.cores_per_rank);
    const std::string advice =
        cores >= wanted ? fmt::format("--ranks-per-node {} uses all of them", gpus)
        : cores > 0     ? fmt::format("The job has {} CPU{} there; ask the scheduler for at least one a GPU",
                                      cores, cores == 1 ? "" : "s")
                        : fmt::format("Ask the scheduler for {} ranks a node", gpus);
    lines.push_back(fmt::format("{} of {} GPUs idle on {}: {} rank{} there, a GPU each. {}", gpus - slots,
                                gpus, fmt::join(names, ", "), slots, slots == 1 ? "" : "s", advice));
  }
  return lines;
}

void refuse_requeue(const LaunchSpec& spec) {
  require_usage(
      !spec.requeue,
      "--requeue: no scheduler is in charge here that could queue a job again; --restarts N starts ranks "
      "that fail again");
}

int64_t total_ranks(const std::vector<Host>& hosts) {
  int64_t ranks = 0;
  for (const Host& host : hosts) ranks += host.slots;
  return ranks;
}

int64_t even_ranks(const std::vector<Host>& hosts) {
  for (const Host& host : hosts) {
    if (host.slots != hosts.front().slots) return 0;
  }
  return hosts.front().slots;
}

LaunchSpec with_size(const LaunchSpec& spec, const std::vector<Host>& hosts) {
  LaunchSpec with_size = spec;
  with_size.nodes = static_cast<int64_t>(hosts.size());
  with_size.ranks_per_node = even_ranks(hosts);
  return with_size;
}

std::vector<std::string> rank_command(const LaunchSpec& spec) {
  std::vector<std::string> words{spec.executable};
  words.insert(words.end(), spec.command.begin(), spec.command.end());
  return words;
}

std::vector<std::string> inner_launch(const LaunchSpec& spec, LimitSignal signal) {
  std::vector<std::string> words{spec.executable, "launch"};
  const auto number = [&](const char* option, int64_t value) {
    if (value > 0) words.insert(words.end(), {option, std::to_string(value)});
  };
  const auto text = [&](const char* option, const std::string& value, std::string_view usual = "") {
    if (value != usual) words.insert(words.end(), {option, value});
  };
  number("--nodes", spec.nodes);
  number("--ranks-per-node", spec.ranks_per_node);
  number("--gpus-per-node", spec.gpus_per_node);
  number("--cores-per-rank", spec.cores_per_rank);
  number("--restarts", spec.restarts);
  if (signal == LimitSignal::kBySupervisor && spec.time_limit_s > 0) {
    text("--time", fmt::format("{}s", spec.time_limit_s));
  }
  words.insert(words.end(), {"--grace", fmt::format("{}s", spec.grace_s)});
  if (spec.requeue) words.emplace_back("--requeue");
  words.emplace_back("--batch");
  text("--preflight", spec.preflight, "on");
  text("--starter", spec.starter, "auto");
  text("--mpi", spec.mpi);
  text("--mpirun", spec.mpirun, "mpirun");
  text("--interface", spec.interface);
  for (const std::string& host : spec.exclude) text("--exclude", host);
  for (const std::string& name : spec.variables) text("--env", name);
  for (const SweepAxis& axis : spec.sweep) {
    text("--sweep", fmt::format("{}={}", axis.key, fmt::join(axis.values, ",")));
  }
  text("--dir", spec.run_directory);
  words.insert(words.end(), spec.command.begin(), spec.command.end());
  return words;
}

}  // namespace tutti
