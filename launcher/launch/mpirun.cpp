#include "launcher/launch/mpirun.h"

#include "launcher/launch/adapter.h"
#include "launcher/launch/quoting.h"

#include <tutti/core/error.h>

#include <algorithm>
#include <charconv>
#include <sstream>

namespace tutti {
namespace {

using Words = std::vector<std::string>;

// Time between the SIGTERM that mpirun sends its ranks, when it receives one or a rank has failed, and
// SIGKILL. mpirun waits twice this time on each host, one host after the other: with two hosts all ranks have
// ended 4 s after one has failed; with 4 s it would be 16 s. Requests to save are sent as SIGUSR1.
constexpr int kSavingTime_s = 1;

void add(Words& words, std::initializer_list<std::string> more) {
  words.insert(words.end(), more);
}

bool several(const std::vector<Host>& hosts) {
  return hosts.size() > 1;
}

Words open_mpi(const LaunchSpec& spec, const std::vector<Host>& hosts, const MpirunOptions& options) {
  // Open MPI 5 starts ranks by PRRTE, which has parameters of its own.
  const bool prrte = spec.library.major_version >= 5;
  const std::string runtime = prrte ? "--prtemca" : "--mca";
  Words words{spec.mpirun, "-np", std::to_string(total_ranks(hosts))};
  if (!options.host_file.empty()) add(words, {"--hostfile", options.host_file});
  const int64_t even = even_ranks(hosts);
  if (even > 0) {
    add(words,
        {"--map-by", fmt::format("ppr:{}:node{}", even, options.oversubscribe ? ":OVERSUBSCRIBE" : "")});
  } else if (options.oversubscribe) {
    add(words, {"--map-by", "slot:OVERSUBSCRIBE"});
  }
  add(words, {"--bind-to", "none"});
  add(words, {runtime, "odls_base_sigkill_timeout", std::to_string(kSavingTime_s)});
  if (several(hosts)) {
    add(words, {runtime, "oob_tcp_keepalive_time", "3", runtime, "oob_tcp_keepalive_intvl", "1", runtime,
                "oob_tcp_keepalive_probes", "5"});
    if (!options.remote_shell.empty()) {
      add(words, {runtime, prrte ? "plm_ssh_agent" : "plm_rsh_agent", options.remote_shell});
    }
  }
  for (const auto& [name, value] : options.parameters) add(words, {runtime, name, value});
  if (!spec.interface.empty()) {
    add(words, {"--mca", "btl_tcp_if_include", spec.interface, runtime,
                prrte ? "prte_if_include" : "oob_tcp_if_include", spec.interface});
  }
  if (options.oversubscribe) add(words, {"--mca", "mpi_yield_when_idle", "1"});
  for (const std::string& name : spec.forwarded) {
    // Open MPI forwards its own parameters, and refuses -x for them.
    const bool parameter =
        name.starts_with("OMPI_") || name.starts_with("PMIX_") || name.starts_with("PRTE_");
    if (!parameter) add(words, {"-x", name});
  }
  return words;
}

Words hydra(const LaunchSpec& spec, const std::vector<Host>& hosts, const MpirunOptions& options) {
  Words words{spec.mpirun, "-n", std::to_string(total_ranks(hosts))};
  if (const int64_t even = even_ranks(hosts); even > 0) add(words, {"-ppn", std::to_string(even)});
  if (!options.host_file.empty()) add(words, {"-f", options.host_file});
  if (!options.remote_shell.empty()) {
    add(words, {"-launcher", "ssh", "-launcher-exec", options.remote_shell});
  }
  if (!spec.interface.empty()) add(words, {"-iface", spec.interface});
  if (!spec.forwarded.empty()) add(words, {"-genvlist", fmt::format("{}", fmt::join(spec.forwarded, ","))});
  return words;
}

/// The number of "slots=2", or of what follows a colon.
int64_t slots_of(std::string_view text, std::string_view line, const std::string& origin) {
  int64_t slots = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), slots);
  require(error == std::errc() && end == text.data() + text.size() && slots > 0 && slots <= 4096,
          "{}: '{}' is not a valid number of ranks", origin, line);
  return slots;
}

}  // namespace

std::vector<std::string> mpirun_command(const LaunchSpec& spec, const std::vector<Host>& hosts,
                                        const MpirunOptions& options) {
  const bool is_open_mpi = spec.library.family == MpiLibrary::Family::kOpenMpi ||
                           spec.library.family == MpiLibrary::Family::kOther;
  Words words = is_open_mpi ? open_mpi(spec, hosts, options) : hydra(spec, hosts, options);
  const Words command = rank_command(spec);
  words.insert(words.end(), command.begin(), command.end());
  return words;
}

std::string host_file_text(const LaunchSpec& spec, const std::vector<Host>& hosts) {
  const bool colons = spec.library.family != MpiLibrary::Family::kOpenMpi &&
                      spec.library.family != MpiLibrary::Family::kOther;
  std::string text = fmt::format("{}\n", kLaunchMark);
  for (const Host& host : hosts) {
    text += fmt::format("{}{}{}\n", host.name, colons ? ":" : " slots=", host.slots);
  }
  return text;
}

std::vector<Host> parse_host_file(std::string_view text, const std::string& origin) {
  std::vector<Host> hosts;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    std::string name;
    if (!(words >> name)) continue;
    int64_t slots = 0;
    if (const size_t colon = name.find(':'); colon != std::string::npos) {
      slots = slots_of(std::string_view(name).substr(colon + 1), line, origin);
      name.resize(colon);
    }
    require(is_host_name(name), "{}: '{}' is not a host name", origin, name);
    // Open MPI takes spaces around the sign too.
    std::string rest;
    for (std::string word; words >> word;) {
      const bool joined = rest.ends_with('=') || word.starts_with('=');
      rest += (rest.empty() || joined ? "" : " ") + word;
    }
    std::istringstream settings(rest);
    for (std::string word; settings >> word;) {
      if (word.starts_with("slots=")) slots = slots_of(std::string_view(word).substr(6), line, origin);
    }
    const auto known =
        std::find_if(hosts.begin(), hosts.end(), [&](const Host& h) { return h.name == name; });
    if (known == hosts.end()) {
      hosts.push_back({.name = name, .slots = std::max<int64_t>(1, slots)});
    } else {
      known->slots += std::max<int64_t>(1, slots);
    }
  }
  require(!hosts.empty(), "{}: names no host", origin);
  return hosts;
}

}  // namespace tutti
