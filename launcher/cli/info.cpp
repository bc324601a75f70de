#include "comm/placement/locality.h"
#include "launcher/cli/commands.h"
#include "launcher/info/build.h"
#include "launcher/info/libraries.h"
#include "launcher/info/machine.h"
#include "launcher/info/text.h"

#include <tutti/core/error.h>
#include "core/cuda/config.h"
#include "core/cuda/device.h"
#include "kernels/cpu/blas.h"
#include "kernels/cpu/isa.h"

#include <fmt/ranges.h>
#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include <memory>
#include <ostream>

namespace tutti {
namespace {

using Json = nlohmann::ordered_json;

Json machine_json(const MachineInfo& machine) {
  Json caches = Json::array();
  for (const CacheInfo& cache : machine.caches) {
    caches.push_back({{"name", cache.name}, {"bytes", cache.bytes}, {"count", cache.count}});
  }
  return {
      {"host", machine.host},
      {"system", machine.system},
      {"kernel", machine.kernel},
      {"cpu", machine.cpu},
      {"packages", machine.packages},
      {"cores", machine.cores},
      {"threads", machine.threads},
      {"usable_threads", machine.usable_threads},
      {"cpu_limit", machine.cpu_limit},
      {"numa_nodes", machine.numa_nodes},
      {"caches", caches},
      {"features", machine.features},
      {"memory_bytes", machine.memory_bytes},
      {"available_bytes", machine.available_bytes},
      {"memory_limit_bytes", machine.memory_limit_bytes},
  };
}

[[maybe_unused]] std::vector<std::string> networks_near(const std::string& pci) {
  try {
    return Locality::of_this_machine(true).networks_near_device(pci);
  } catch (const Error&) {
    return {};  // unknown to hwloc
  }
}

/// One entry for each visible GPU.
void add_gpus(Json& devices) {
  if constexpr (kWithCuda) {
    const int count = cuda::device_count();
    for (int i = 0; i < count; ++i) {
      const cuda::DeviceInfo gpu = cuda::device_info(i);
      devices.push_back({{"name", fmt::format("cuda:{}", i)},
                         {"model", gpu.name},
                         {"uuid", gpu.uuid},
                         {"pci", gpu.pci},
                         {"networks", networks_near(gpu.pci)},
                         {"capability", gpu.capability},
                         {"multiprocessors", gpu.multiprocessors},
                         {"memory_bytes", gpu.memory_bytes}});
    }
  }
}

Json info_json(const MachineInfo& machine, const MpiProbe& mpi) {
  Json info;
  info["tutti"] = {
      {"version", build_number()}, {"revision", build_revision()}, {"compiler", build_compiler()}};
  info["machine"] = machine_json(machine);
  info["devices"] = Json::array({{{"name", "cpu"},
                                  {"math", cpu::math_library_version(cpu::math_library())},
                                  {"instruction_set", name(best_isa())},
                                  {"best_instruction_set", name(cpu_isa())},
                                  {"threads", machine.usable_threads},
                                  {"memory_bytes", machine.memory_bytes}}});
  add_gpus(info["devices"]);
  info["mpi"] = {{"library", mpi_library_version()},
                 {"standard", mpi.standard},
                 {"thread_level", mpi.thread_level},
                 {"ranks", mpi.size},
                 {"error", mpi.error}};
  for (const auto& [library, version] : library_versions()) info["libraries"][library] = version;
  return info;
}

void row(std::ostream& out, std::string_view label, std::string_view value) {
  if (!value.empty()) out << fmt::format("  {:<16}{}\n", label, value);
}

void print_gpus(std::ostream& out) {
  if constexpr (kWithCuda) {
    const int count = cuda::device_count();
    for (int i = 0; i < count; ++i) {
      const cuda::DeviceInfo gpu = cuda::device_info(i);
      row(out, fmt::format("cuda:{}", i),
          fmt::format("{}, compute capability {}.{}, {}, {}", gpu.name, gpu.capability / 10,
                      gpu.capability % 10, bytes_text(gpu.memory_bytes), gpu.uuid));
      const std::vector<std::string> networks = networks_near(gpu.pci);
      row(out, "",
          fmt::format("{}{}{}", gpu.pci, networks.empty() ? "" : ", beside ", fmt::join(networks, ", ")));
    }
    if (count == 0) row(out, "cuda", cuda::why_no_device());
  } else {
    row(out, "cuda", "not in this build");
  }
}

void print_machine(const MachineInfo& machine, std::ostream& out) {
  out << "Machine\n";
  row(out, "host", machine.host);
  row(out, "system", fmt::format("{}, {}", machine.system, machine.kernel));
  row(out, "processor", machine.cpu);
  row(out, "cores",
      fmt::format("{} cores, {} threads in {} package{}, {} NUMA node{}", machine.cores, machine.threads,
                  machine.packages, machine.packages == 1 ? "" : "s", machine.numa_nodes,
                  machine.numa_nodes == 1 ? "" : "s"));
  row(out, "usable here",
      fmt::format(
          "{} threads{}", machine.usable_threads,
          machine.cpu_limit > 0 ? fmt::format(", {:.3g} CPUs' worth of time", machine.cpu_limit) : ""));
  std::vector<std::string> caches;
  caches.reserve(machine.caches.size());
  for (const CacheInfo& cache : machine.caches) {
    caches.push_back(fmt::format("{} {}{}", cache.name, bytes_text(cache.bytes),
                                 cache.count > 1 ? fmt::format(" x {}", cache.count) : ""));
  }
  row(out, "caches", fmt::format("{}", fmt::join(caches, ", ")));
  row(out, "instructions", fmt::format("{}", fmt::join(machine.features, " ")));
  row(out, "memory",
      fmt::format(
          "{}, {} available{}", bytes_text(machine.memory_bytes), bytes_text(machine.available_bytes),
          machine.memory_limit_bytes > 0 ? ", limited to " + bytes_text(machine.memory_limit_bytes) : ""));
}

void print_info(const MachineInfo& machine, const MpiProbe& mpi, std::ostream& out) {
  out << "tutti " << build_version() << ", " << build_compiler() << "\n\n";
  print_machine(machine, out);
  out << "\nDevices\n";
  const std::string isa_note =
      best_isa() == cpu_isa() ? "" : fmt::format(" (TUTTI_ISA; the CPU has {})", name(cpu_isa()));
  row(out, "cpu",
      fmt::format("matrices by {}, other kernels for {}{}", cpu::math_library_version(cpu::math_library()),
                  name(best_isa()), isa_note));
  print_gpus(out);
  out << "\nMPI\n";
  row(out, "library", mpi_library_version());
  if (mpi.error.empty()) {
    row(out, "standard", mpi.standard);
    row(out, "threads", mpi.thread_level);
    row(out, "ranks", std::to_string(mpi.size));
  } else {
    row(out, "problem", mpi.error);
  }
  out << "\nLibraries\n";
  for (const auto& [library, version] : library_versions()) row(out, library, version);
}

CommandAction setup_info(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  app.add_flag("--json", *json, "Print JSON for scripts");
  return [json](Console& console) {
    const MpiProbe mpi = probe_mpi();
    if (mpi.rank != 0) return ExitCode::kDone;  // print once under mpirun
    const MachineInfo machine = machine_info();
    if (*json) {
      console.out << info_json(machine, mpi).dump(2) << '\n';
    } else {
      print_info(machine, mpi, console.out);
    }
    return ExitCode::kDone;
  };
}

}  // namespace

const Command kInfoCommand{"info", "Show this machine, the libraries, the devices and MPI",
                           R"(  tutti info
  tutti info --json | jq .machine.cores
  mpirun -n 2 --map-by numa tutti info     # what rank 0 sees under a launcher)",
                           &setup_info};

}  // namespace tutti
