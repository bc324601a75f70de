#include <tutti/comm/factory.h>
#include <tutti/comm/threads.h>
#include "comm/mpi/world.h"
#include "comm/rank_variables.h"
#include "core/memory/out_of_memory.h"
#include "core/signal_thread.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace tutti {
namespace {

using Body = std::function<void(Collective&)>;

struct Backend {
  std::string_view name;
  void (*run)(const WorldConfig&, const Body&);
};

// A new backend needs one line here.
constexpr std::array kBackends{
    Backend{"self", [](const WorldConfig&, const Body& body) { body(*make_self_collective()); }},
    Backend{"threads",
            [](const WorldConfig& c, const Body& body) { run_ranks(static_cast<int>(c.threads), body); }},
    Backend{"mpi",
            [](const WorldConfig& c, const Body& body) {
              run_mpi({static_cast<int>(c.ranks_per_node), c.program}, body);
            }},
};

}  // namespace

void WorldConfig::describe(Fields& f) {
  std::vector<std::string> names{"auto"};
  for (const Backend& b : kBackends) names.emplace_back(b.name);
  f.choice("backend", backend, names, "how ranks communicate; auto: mpi under a launcher, else self");
  f.value("threads", threads, "ranks of the threads backend", between(1, 1024));
  f.value("ranks_per_node", ranks_per_node,
          "mpi: simulate nodes with at most this many ranks; 0: the actual nodes", at_least(0));
}

std::string_view detect_backend() {
  for (const char* variable : kMpiRankVariables) {
    if (std::getenv(variable) != nullptr) return "mpi";
  }
  return "self";
}

void run_world(const WorldConfig& config, const Body& body) {
  check_settings(config, "world");
  const std::string_view wanted = config.backend == "auto" ? detect_backend() : config.backend;
  const SignalThread signals;  // before MPI and the backends start threads
  for (const Backend& b : kBackends) {
    if (b.name == wanted) return b.run(config, body);
  }
  fail("communication backend '{}' is not one of auto, self, threads, mpi", wanted);
}

int run_program(std::string_view name, const Body& body) noexcept {
  const auto say = [&](const char* what) {
    (void)std::fprintf(stderr, "%.*s: %s\n", static_cast<int>(name.size()), name.data(), what);
    return EXIT_FAILURE;
  };
  try {
    run_world({.program = std::string(name)}, body);
    return EXIT_SUCCESS;
  } catch (const std::exception& error) {
    return say(error_text(error).c_str());
  } catch (...) {
    return say("an exception that is not a std::exception");
  }
}

}  // namespace tutti
