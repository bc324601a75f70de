#include "launcher/launch/adapter.h"
#include "launcher/usage.h"

#include <tutti/core/error.h>
#include "core/config/nearest.h"

#include <array>

namespace tutti {

// Each is defined in a file of adapters/.
extern const Adapter kSlurmAdapter, kPbsAdapter, kTorqueAdapter, kLsfAdapter, kFluxAdapter, kHostFileAdapter,
    kLocalAdapter, kKubernetesAdapter;

std::span<const Adapter* const> adapters() {
  // kLocalAdapter is detected everywhere: it comes after all that detect a job or a host file.
  static constexpr std::array kAll{&kSlurmAdapter, &kPbsAdapter,      &kTorqueAdapter, &kLsfAdapter,
                                   &kFluxAdapter,  &kHostFileAdapter, &kLocalAdapter,  &kKubernetesAdapter};
  return kAll;
}

const Adapter& adapter_named(std::string_view name) {
  std::vector<std::string> names{"auto"};
  for (const Adapter* adapter : adapters()) {
    if (adapter->name == name) return *adapter;
    names.emplace_back(adapter->name);
  }
  fail_usage("--scheduler '{}' is not one of {}{}", name, fmt::join(names, ", "), did_you_mean(name, names));
}

Detected detect(const Environment& here, const LaunchSpec& spec) {
  if (spec.scheduler != "auto") {
    const Adapter& adapter = adapter_named(spec.scheduler);
    std::optional<Allocation> found = adapter.detect(here);
    // A script can be looked at (--dry-run) where the scheduler is not.
    return {&adapter, found ? *std::move(found) : Allocation{.place = Allocation::Place::kLogin}};
  }
  // Machines that the user names are meant, also where jobs could be submitted; in a job its own hosts are.
  const bool named = !spec.host_file.empty();
  std::optional<Detected> login;
  for (const Adapter* adapter : adapters()) {
    std::optional<Allocation> found = adapter->detect(here);
    if (!found) continue;
    if (found->place != Allocation::Place::kLogin) {
      if (found->place == Allocation::Place::kHere && login && !named) return *login;
      return {adapter, *std::move(found)};
    }
    if (!login) login = Detected{adapter, *std::move(found)};
  }
  require(login.has_value(), "nothing here can start ranks");
  return *login;
}

}  // namespace tutti
